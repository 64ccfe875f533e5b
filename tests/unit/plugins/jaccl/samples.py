"""Outputs of macOS commands, made up in the form that they have."""

from __future__ import annotations

import json
from typing import Any


def bus(number: int, speed: str, *items: dict[str, Any], uuid: str = "") -> dict[str, Any]:
    """A port of this Mac; receptacle N belongs to bus N-1."""
    connected = not speed.startswith("Up to")
    return {
        "_name": f"thunderboltusb4_bus_{number - 1}",
        "device_name_key": "Mac mini",
        "domain_uuid_key": uuid or f"AAAAAAAA-0000-4000-8000-00000000000{number}",
        "receptacle_1_tag": {
            "current_speed_key": speed,
            "link_status_key": "0x2" if connected else "0x100",
            "receptacle_id_key": str(number),
            "receptacle_status_key": "receptacle_connected" if connected else "receptacle_no_devices_connected",
        },
        **({"_items": list(items)} if items else {}),
    }


def other_mac(uuid: str, rdma: bool = True, name: str = "Mac Studio") -> dict[str, Any]:
    services = [{"_name": "service_ip", "protocol_id_key": 1}]
    if rdma:
        services.append({"_name": "unknown_xd_service", "protocol_id_key": 64087})
    return {"_name": name, "device_name_key": "Mac16,9", "domain_uuid_key": uuid, "services_title": services}


def dock(speed: str, *items: dict[str, Any]) -> dict[str, Any]:
    upstream = {"current_speed_key": speed, "receptacle_status_key": "receptacle_connected"}
    return {"_name": "Dock 7", "mode_key": "usb_four", "receptacle_upstream_ambiguous_tag": upstream,
            "switch_uid_key": "0x1", "_items": list(items)}  # fmt: skip


def profile(*buses: dict[str, Any]) -> str:
    return json.dumps({"SPThunderboltDataType": list(buses)})


TEXT = """\
Thunderbolt/USB4:

    Thunderbolt/USB4 Bus 1:

      Vendor Name: Apple Inc.
      Device Name: Mac mini
      UID: 0x0000000000000001
      Domain UUID: AAAAAAAA-0000-4000-8000-000000000002
      Port:
          Status: Device connected
          Link Status: 0x2
          Speed: 80 Gb/s
          Receptacle: 2

        Dock 7:

          Vendor Name: Example
          Port (Upstream):
              Status: Device connected
              Speed: 40 Gb/s

            Mac Studio:

              Device Name: Mac16,9
              Domain UUID: BBBBBBBB-0000-4000-8000-000000000001
              Services:
                Internet Protocol:
                  Protocol ID: 1
                Service: Unknown:
                  Protocol ID: 64087
                  Service Key: rdma

    Thunderbolt/USB4 Bus 0:

      Vendor Name: Apple Inc.
      Domain UUID: AAAAAAAA-0000-4000-8000-000000000001
      Port:
          Status: No device connected
          Speed: Up to 120 Gb/s
          Receptacle: 1
"""

IBV_DEVICES = """\
    device          \t   node GUID
    ------          \t----------------
    rdma_en3        \t00000000000000a3
    rdma_en2        \t00000000000000a2
"""

IBV_DEVINFO = """\
hca_id:\trdma_en3
\ttransport:\t\t\tThunderbolt (100)
\tphys_port_cnt:\t\t\t1
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_DOWN (1)
\t\t\tmax_mtu:\t\t4096 (5)

hca_id:\trdma_en2
\ttransport:\t\t\tThunderbolt (100)
\t\tport:\t1
\t\t\tstate:\t\t\tPORT_ACTIVE (4)
\t\t\tactive_speed:\t\t10.0 Gbps (4)
\t\t\tGID[  0]:\t\tfe80::ff:fe00:a2
\t\t\tGID[  1]:\t\t::ffff:169.254.7.8, RoCE v2
\t\t\tGID[  2]:\t\tfe80::1
"""

NETWORKSETUP = """
Hardware Port: Ethernet
Device: en0
Ethernet Address: 02:00:00:00:00:00

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: 02:00:00:00:00:09

Hardware Port: Thunderbolt 1
Device: en3
Ethernet Address: 02:00:00:00:00:03

Hardware Port: Thunderbolt 4
Device: en2
Ethernet Address: 02:00:00:00:00:02

VLAN Configurations
===================
"""

IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\tinet 127.0.0.1 netmask 0xff000000
en2: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tether 02:00:00:00:00:02
\tinet6 fe80::1%en2 prefixlen 64 secured scopeid 0xb
\tinet 169.254.7.8 netmask 0xffff0000 broadcast 169.254.255.255
\tinet 10.0.5.1 netmask 0xffffff00 broadcast 10.0.5.255
bridge0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tinet 192.0.2.20 netmask 0xffffff00 broadcast 192.0.2.255
\tmember: en3 flags=3<LEARNING,DISCOVER>
\t        ifmaxaddr 0 port 9 priority 0 path cost 0
"""
