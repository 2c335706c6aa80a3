//! From a Kubefile to an image: parse, resolve, run, commit.
