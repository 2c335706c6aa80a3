//! Product tests: the two real binaries on real hosts.
