//! System calls that a command has no use for, or that would undo the rest, fail with `EPERM`.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch,
};

use super::Trouble;

/// Fail whatever their arguments are: other processes, mounts and namespaces, keys, the kernel itself, and interfaces
/// that go round the other filters (io_uring does calls that no filter sees).
const DENIED: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Where there is no network namespace: all that a socket from a pair could do to reach another.
const DENIED_OF_PAIRS: &[c_long] = &[libc::SYS_connect, libc::SYS_bind];
/// Where there is no IPC namespace: memory and messages of other processes.
const DENIED_OF_IPC: &[c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[c_long] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[c_long] = &[];

/// `open_tree_attr`, Linux 6.15; newer than the table of libc.
const OPEN_TREE_ATTR: c_long = 467;

/// x32 calls carry this bit and else the numbers of x86-64; a filter by number would miss them.
#[cfg(target_arch = "x86_64")]
const X32: c_long = 0x4000_0000;

const NEW_NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    0x80, // CLONE_NEWTIME
];

/// What of a socket's type is not a flag.
const SOCKET_KIND: u64 = 0xf;

/// Which sockets can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sockets {
    /// Those of the namespace's own network and of its own processes; the mounts hide the others.
    Own,
    /// Only pairs: without a network namespace a filter is all there is.
    None,
}

/// Applies the filters to this process and all that it will start.
pub(super) fn apply(sockets: Sockets, own_ipc: bool) -> Result<(), Trouble> {
    let fail = |error: String| Trouble::new("the system call filter", error);
    for (rules, errno) in [
        (gone(), libc::ENOSYS),
        (denied(sockets, own_ipc), libc::EPERM),
    ] {
        let rules = rules.map_err(|error| fail(error.to_string()))?;
        let program = compile(rules, errno).map_err(|error| fail(error.to_string()))?;
        seccompiler::apply_filter(&program).map_err(|error| fail(error.to_string()))?;
    }
    Ok(())
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let denied = SeccompAction::Errno(errno.cast_unsigned());
    SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)?.try_into()
}

/// `clone3` hides its flags behind a pointer; where it does not exist, the C library takes `clone`.
fn gone() -> Result<Rules, seccompiler::BackendError> {
    Ok(with_x32([(libc::SYS_clone3, Vec::new())].into()))
}

fn denied(sockets: Sockets, own_ipc: bool) -> Result<Rules, seccompiler::BackendError> {
    let pairs = sockets == Sockets::None;
    let mut rules: Rules = DENIED
        .iter()
        .chain(DENIED_HERE)
        .chain(if pairs { DENIED_OF_PAIRS } else { &[] })
        .chain(if own_ipc { &[] } else { DENIED_OF_IPC })
        .chain(&[OPEN_TREE_ATTR])
        .map(|call| (*call, Vec::new()))
        .collect();
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        let flags = NEW_NAMESPACES.map(|flag| u64::from(flag.cast_unsigned()));
        let new = flags
            .into_iter()
            .map(|flag| rule(0, Compare::MaskedEq(flag), flag));
        rules.insert(call, new.collect::<Result<_, _>>()?);
    }
    let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| rule(1, Compare::Eq, request));
    rules.insert(
        libc::SYS_ioctl,
        typing.into_iter().collect::<Result<_, _>>()?,
    );
    rules.insert(libc::SYS_socket, families(sockets)?);
    if pairs {
        // Only a datagram names its receiver; the others have theirs.
        let datagram = libc::SOCK_DGRAM.cast_unsigned().into();
        let kind = rule(1, Compare::MaskedEq(SOCKET_KIND), datagram)?;
        rules.insert(libc::SYS_socketpair, vec![kind]);
    }
    Ok(with_x32(rules))
}

/// What `socket` refuses: an empty list is everything.
fn families(sockets: Sockets) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    if sockets == Sockets::None {
        return Ok(Vec::new());
    }
    // All else has no network namespace of its own (vsock reaches the host of a virtual machine) or is rarely looked at.
    let own = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let others = own.map(|family| {
        Condition::new(
            0,
            Width::Dword,
            Compare::Ne,
            u64::from(family.cast_unsigned()),
        )
    });
    Ok(vec![SeccompRule::new(
        others.into_iter().collect::<Result<_, _>>()?,
    )?])
}

fn rule(
    argument: u8,
    compare: Compare,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = Condition::new(argument, Width::Dword, compare, value)?;
    SeccompRule::new(vec![condition])
}

#[cfg(target_arch = "x86_64")]
fn with_x32(mut rules: Rules) -> Rules {
    let twins: Vec<_> = rules
        .iter()
        .map(|(call, rules)| (call | X32, rules.clone()))
        .collect();
    rules.extend(twins);
    rules
}

#[cfg(not(target_arch = "x86_64"))]
fn with_x32(rules: Rules) -> Rules {
    rules
}
