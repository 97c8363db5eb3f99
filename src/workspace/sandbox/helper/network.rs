//! The loopback of a new network namespace, which is down at first.

use rustix::{
    io,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType},
};

/// `RTM_NEWLINK` with a request for an answer: netlink(7), rtnetlink(7).
const NEW_LINK: u16 = 16;
const REQUEST_AND_ACK: u16 = 1 | 4;
const UP: u32 = 1;
/// In every network namespace the loopback is the first link.
const LOOPBACK: u32 = 1;

/// Brings the loopback up.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // Protocol 0 is the one for links, addresses and routes.
        None,
    )?;
    rustix::net::send(&socket, &message(), SendFlags::empty())?;
    let mut answer = [0; 512];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // The answer is a header of 16 bytes and an error number, 0 for none.
    match answer[..length].get(16..20) {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(code) => {
            let code = i32::from_ne_bytes([code[0], code[1], code[2], code[3]]);
            Err(io::Errno::from_raw_os_error(-code))
        }
        None => Err(io::Errno::PROTO),
    }
}

fn message() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend([0; 4]); // family, type
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // flags
    message.extend(UP.to_ne_bytes()); // which of them change
    message
}
