//! How navarch gets into a cluster: charts, manifests, images, installation.

pub mod image;
