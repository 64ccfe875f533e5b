"""The conformance kit: holds a transport plugin to the contract in `plugins/README.md`.

A plugin author writes one fixture and one class:

    class TestMine(TransportSuite):
        @pytest.fixture
        def harness(self) -> Harness:
            return Harness("mine")

`case.py`       what a case is: a function that every rank runs, and what it needs
`cases/`        the cases, one file for each topic of the contract
`rank.py`       what a case is given: a seat, the transport, a group, a rendezvous (`meeting.py`)
`carriers.py`   bytes over parts or over arrays, for cases that hold for both
`checks.py`     how a case says what it expects
`bits.py`       arrays of known bits;  `leaks.py`  what a process holds;  `strangers.py`  who knocks at ports
`run.py`        one rank of one case, wherever it runs; and the verdict over all ranks
`threads.py`    the ranks as threads of this process
`processes.py`  the ranks as processes of this machine; `child.py` is such a process
`harness.py`    a transport under test
`suite.py`      the cases as pytest tests; the only file here that needs pytest
`template/`     what `nova transports new` writes
"""
