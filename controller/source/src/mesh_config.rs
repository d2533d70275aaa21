//! MeshConfig from a file of its own instead of the ConfigMap `istio` (istiod's `--meshConfigFile`).

use crds::kube::ConfigMap;
use crds::{Kind, Meta, Object, ObjectKey, Spec};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file, and what was last read of it.
#[derive(Debug)]
pub struct MeshConfigFile {
    path: PathBuf,
    seen: (Option<SystemTime>, u64),
    text: String,
}

impl MeshConfigFile {
    /// Reads the file once; it must be there at the start.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, MissingMeshConfig> {
        let path = path.into();
        let read = stamp(&path).and_then(|seen| Ok((seen, fs::read_to_string(&path)?)));
        match read {
            Ok((seen, text)) => Ok(Self { path, seen, text }),
            Err(source) => Err(MissingMeshConfig { path, source }),
        }
    }

    /// As the object that stands for it everywhere else. It takes the place of every ConfigMap of that name.
    pub fn object(&self) -> Object {
        let key = ObjectKey::new(Kind::ConfigMap, "istio-system", "istio");
        let meta = Meta { name: key.name.clone(), namespace: key.namespace.clone(), ..Meta::default() };
        let data = [("mesh".to_owned(), self.text.clone())].into();
        Object { key, meta, spec: Spec::ConfigMap(ConfigMap { data }) }
    }

    /// Looks again; the object, if its text has changed. A file that is gone or cannot be read changes nothing.
    pub fn poll(&mut self) -> Option<Object> {
        let seen = stamp(&self.path).ok().filter(|seen| *seen != self.seen)?;
        let text = fs::read_to_string(&self.path).ok()?;
        self.seen = seen;
        if text == self.text {
            return None;
        }
        self.text = text;
        Some(self.object())
    }
}

fn stamp(path: &Path) -> io::Result<(Option<SystemTime>, u64)> {
    let meta = fs::metadata(path)?;
    Ok((meta.modified().ok(), meta.len()))
}

/// The file named on the command line cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read MeshConfig from {path}", path = path.display())]
pub struct MissingMeshConfig {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(object: &Object) -> &str {
        let Spec::ConfigMap(map) = &object.spec else { panic!("a ConfigMap") };
        &map.data["mesh"]
    }

    #[test]
    fn the_file_stands_for_the_config_map_and_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.yaml");
        fs::write(&path, "trustDomain: a").unwrap();
        let mut file = MeshConfigFile::open(&path).unwrap();
        assert_eq!(text(&file.object()), "trustDomain: a");
        assert_eq!(file.poll(), None);
        fs::write(&path, "trustDomain: longer").unwrap();
        assert_eq!(file.poll().as_ref().map(text), Some("trustDomain: longer"));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.poll(), None, "what is gone changes nothing");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_that_names_it() {
        assert!(MeshConfigFile::open("/nowhere/mesh.yaml").unwrap_err().to_string().contains("/nowhere/mesh.yaml"));
    }
}
