//! Takes the descriptor set out of the envoy-types package, where prost-build left it beside the generated
//! code, so that descriptors and Rust types are of one version by construction. Nothing is fetched or committed.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

const PACKAGE: &str = "envoy-types";
const DESCRIPTORS: &str = "src/generated/types.bin";

fn main() {
    let descriptors = package_root().join(DESCRIPTORS);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", descriptors.display());
    // Another version of the package is another directory; Cargo.lock is what says which.
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let set = fs::read(&descriptors).unwrap_or_else(|error| panic!("{}: {error}", descriptors.display()));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptors.bin");
    fs::write(out, without_comments(&set)).expect("OUT_DIR is writable");
}

/// Asks the cargo that is building us where it keeps the package's source: registry, vendored or patched. Metadata
/// covers the whole workspace: where this build needed less than that, the rest is not there yet and is loaded.
fn package_root() -> PathBuf {
    let output = Some(metadata(&["--offline"])).filter(|it| it.status.success()).unwrap_or_else(|| metadata(&[]));
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("metadata lists packages");
    let package = packages.iter().find(|package| package["name"] == PACKAGE).expect("envoy-types is a dependency");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a package has a manifest"));
    manifest.parent().expect("a manifest is in a directory").to_owned()
}

fn metadata(extra: &[&str]) -> Output {
    let variable = |name| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    Command::new(variable("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &variable("TARGET")])
        .args(extra)
        .current_dir(variable("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs")
}

/// The set without `FileDescriptorProto.source_code_info`, four fifths of it. Done on the wire: decoding
/// into prost's types would lose the options that are extensions, and Envoy's validation rules are those.
fn without_comments(set: &[u8]) -> Vec<u8> {
    const FILE: u64 = 1;
    const SOURCE_CODE_INFO: u64 = 9;
    let mut out = Vec::new();
    for (number, _, file) in fields(set) {
        assert_eq!(number, FILE, "a FileDescriptorSet has files only");
        let kept: Vec<u8> = fields(file)
            .filter(|(number, ..)| *number != SOURCE_CODE_INFO)
            .flat_map(|(_, whole, _)| whole.iter().copied())
            .collect();
        out.push(0x0a);
        let mut length = kept.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(kept);
    }
    out
}

/// The fields of an encoded message: number, the field with its tag, its content.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let start = bytes;
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                let mut rest = bytes;
                varint(&mut rest);
                bytes.len() - rest.len()
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).expect("a length fits"),
            5 => 4,
            other => panic!("wire type {other} in a descriptor set"),
        };
        let (content, rest) = bytes.split_at(length);
        bytes = rest;
        Some((key >> 3, &start[..start.len() - rest.len()], content))
    })
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
