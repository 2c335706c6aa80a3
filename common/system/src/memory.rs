//! This program's own memory.

/// Gives freed memory back to the kernel. For the end of work that took much of it: in between, pages that are given
/// back and taken again cost more than they save. Does nothing where the C library is not glibc.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(
            unsafe_code,
            reason = "malloc_trim(3) has no safe wrapper; it takes a number, touches only free memory and is thread-safe"
        )]
        // SAFETY: no precondition; memory in use is never touched.
        unsafe {
            nix::libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Bytes of this process that are in memory (proc(5), `statm`).
    fn resident() -> u64 {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    #[test]
    fn freed_memory_goes_back_to_the_kernel() {
        // Small pieces, every hundredth kept: too scattered for the C library to give back by itself.
        let pieces: Vec<Vec<u8>> = (0..40_000).map(|_| vec![1; 1000]).collect();
        let kept: Vec<Vec<u8>> = pieces.into_iter().step_by(100).collect();
        let before = resident();
        give_back();
        let after = resident();
        assert!(
            after + (20 << 20) < before,
            "{before} bytes before, {after} after"
        );
        assert_eq!(kept.len(), 400);
    }
}
