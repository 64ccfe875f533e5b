"""Network namespaces of Linux as virtual Macs, to cut, slow and misroute what joins them. `tools/lab` is its command.

Each host is a namespace with two interfaces, each on a bridge of its own:

    tb0   169.254.85.N/16, fe80::77:N, fd77::N/64    as a Thunderbolt link between two Macs comes up by itself
    en0   10.77.0.N/24                               a private subnet; the control plane's

and with processes, /etc/hosts, HOME, NOVA_HOME, TMPDIR and CPU quota of its own. `mac-N.local` is the address on tb0:
IPv4, or on request IPv6 only, as multicast DNS may answer (fd77::N, because a link-local address in /etc/hosts has no
scope). A lab leaves nothing but the two folders that all labs share, /run/nova-lab and /etc/netns.
"""
