//! Those who take part in a benchmark.

use anyhow::Result;

/// A way to do the job a benchmark measures.
pub(crate) trait Contender {
    /// What it is called in tables.
    fn name(&self) -> &str;

    /// Removes what the last round left. Not measured.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does the job. Measured.
    fn run(&mut self) -> Result<()>;

    /// Proves that the job was done. Not measured, and only asked once.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }
}
