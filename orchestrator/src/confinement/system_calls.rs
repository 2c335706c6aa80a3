//! This module owns what others may not ask of the kernel. Their rights end at the sandbox, and a user namespace would give them
//! all rights anew; keys and some kinds of sockets know no namespaces at all.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// What is refused whatever its arguments are: it reaches what this machine has once.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_setns,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
];
/// Among the system calls of x86-64 those that programs for x32 make, where the kernel has them.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;

/// Takes these system calls away from this thread, and from all that it starts. Programs of another architecture than this one's
/// are ended.
pub(crate) fn refuse() -> io::Result<()> {
    // Whoever asks for namespaces this way shows them in memory, where no filter looks; libraries ask the older way then.
    load(rules([(libc::SYS_clone3, vec![])]), libc::ENOSYS)?;
    let new_user = libc::CLONE_NEWUSER as u64;
    let namespace = argument(0, SeccompCmpOp::MaskedEq(new_user), new_user)?;
    let vsock = argument(0, SeccompCmpOp::Eq, libc::AF_VSOCK as u64)?;
    let some = [
        (libc::SYS_unshare, vec![namespace.clone()]),
        (libc::SYS_clone, vec![namespace]),
        (libc::SYS_socket, vec![vsock]),
    ];
    let all = REFUSED.iter().map(|number| (*number, vec![]));
    load(rules(some.into_iter().chain(all)), libc::EPERM)
}

fn argument(number: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    // The kernel looks at the lower half of each of them.
    let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value);
    condition
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(io::Error::other)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(calls: impl IntoIterator<Item = (libc::c_long, Vec<SeccompRule>)>) -> Rules {
    let mut rules = Rules::new();
    for (number, conditions) in calls {
        #[cfg(target_arch = "x86_64")]
        rules.insert(number | X32, conditions.clone());
        rules.insert(number, conditions);
    }
    rules
}

fn load(rules: Rules, errno: libc::c_int) -> io::Result<()> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let refused = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)
}
