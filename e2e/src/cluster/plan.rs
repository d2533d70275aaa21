//! Names and addresses of clusters: all that is decided before anything is started.

use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

/// Letters, digits and dashes, short enough that a socket's path in the cluster's folder stays below 108 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

const NAME_BYTES_MAX: usize = 20;

impl Name {
    /// # Errors
    /// When it is empty, too long, or holds something else.
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        let ends_well = !text.starts_with('-') && !text.ends_with('-');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) || !ends_well {
            bail!(
                "{text:?} cannot be a cluster's name: at most {NAME_BYTES_MAX} lower-case letters, digits and dashes, no \
                 dash at either end"
            );
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many clusters one machine can have at a time: their addresses never overlap, so that meshes of several clusters
/// can be connected.
pub const CLUSTERS_MAX: u8 = 32;

/// A cluster's addresses, which exist inside its own network namespace only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Below [`CLUSTERS_MAX`].
    index: u8,
}

impl Addresses {
    /// The first that no other cluster has.
    ///
    /// # Errors
    /// When all are taken.
    pub fn first_free(taken: &BTreeSet<u8>) -> Result<Self> {
        match (0..CLUSTERS_MAX).find(|it| !taken.contains(it)) {
            Some(index) => Ok(Self { index }),
            None => bail!("there are {CLUSTERS_MAX} clusters on this machine already"),
        }
    }

    #[must_use]
    pub fn of_index(index: u8) -> Option<Self> {
        (index < CLUSTERS_MAX).then_some(Self { index })
    }

    #[must_use]
    pub fn index(self) -> u8 {
        self.index
    }

    #[must_use]
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 200, self.index, 1)
    }

    /// Of all Services.
    #[must_use]
    pub fn services(self) -> String {
        format!("10.{}.0.0/16", SERVICES + self.index)
    }

    /// Of the Service `kubernetes`.
    #[must_use]
    pub fn apiserver(self) -> Ipv4Addr {
        Ipv4Addr::new(10, SERVICES + self.index, 0, 1)
    }

    #[must_use]
    pub fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, SERVICES + self.index, 0, 10)
    }

    /// Of all pods.
    #[must_use]
    pub fn pods(self) -> String {
        format!("10.{}.0.0/16", PODS + self.index)
    }

    /// Of the one node's pods: the first block of [`Self::pods`].
    #[must_use]
    pub fn pods_of_node(self) -> String {
        format!("10.{}.0.0/{NODE_MASK_BITS}", PODS + self.index)
    }
}

pub const NODE_MASK_BITS: u8 = 20;
const SERVICES: u8 = 96;
const PODS: u8 = 128;
