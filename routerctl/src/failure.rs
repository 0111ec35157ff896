//! What can go wrong, as scripts have to tell it apart. Every command ends with one of these codes.

use std::process::ExitCode;

use thiserror::Error;

/// Why a command failed. What is none of these is a [`Failure::Check`] to scripts.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something is not as it has to be: a message is missing, damaged or out of order. Exit code 1.
    #[error("{0}")]
    Check(String),
    /// The options make no sense together. Exit code 2, as for those that can't be parsed.
    #[error("{0}")]
    Usage(String),
    /// There is no server to talk to. Exit code 3.
    #[error("{0}")]
    Unreachable(String),
}

/// The exit code for what came of a command.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(match error.downcast_ref() {
        Some(Failure::Check(_)) | None => 1,
        Some(Failure::Usage(_)) => 2,
        Some(Failure::Unreachable(_)) => 3,
    })
}
