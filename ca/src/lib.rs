//! Workload identities: who asks (SPIFFE ids from tokens and certificates), and what is signed for them.
