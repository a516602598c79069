//! A port for a server of a test.

use std::net::TcpListener;

/// A port of the loopback that was free a moment ago.
pub fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
