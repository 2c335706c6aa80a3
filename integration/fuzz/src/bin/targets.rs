//! Prints the names of the targets, one a line.

fn main() {
    for target in gantry_fuzz::TARGETS {
        println!("{}", target.name);
    }
}
