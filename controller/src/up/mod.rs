//! `navarch up`: the whole mesh on a laptop, from a folder of kubectl YAML.

pub mod check;
mod ground;
pub mod laptop;
pub mod locate;
pub mod mesh;
pub mod process;
pub mod status;
pub mod supervisor;
pub mod view;
