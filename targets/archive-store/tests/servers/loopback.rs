//! Ports of this host.

use std::net::{Ipv4Addr, TcpListener};

/// Nobody listened there a moment ago.
pub fn unused_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap().port()
}
