//! `navarch up`: the whole mesh on a laptop, from a folder of kubectl YAML.

pub mod laptop;
pub mod service;
