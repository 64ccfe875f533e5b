"""What every transport must do, whichever it is: the contract of plugins/README.md, held by the kit `nova.testing`."""
