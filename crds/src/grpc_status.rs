//! gRPC's status codes by name (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).

/// In the order of their numbers.
pub const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// `None`: there is no such status.
pub fn number(name: &str) -> Option<u32> {
    NAMES.iter().zip(0..).find(|(it, _)| **it == name).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_numbers() {
        assert_eq!((number("OK"), number("UNAVAILABLE"), number("ok")), (Some(0), Some(14), None));
    }
}
