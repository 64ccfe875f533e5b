"""What every transport must do, whichever it is: the cases of the contract in `nova.transport.api`."""
