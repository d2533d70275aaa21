//! How navarch gets into a cluster: charts, manifests, images, installation.

pub mod chart;
pub mod cli;
pub mod crd;
pub mod image;
pub mod install;
pub mod kind;
pub mod manifest;
pub mod profile;
pub mod value;
pub mod yaml;
