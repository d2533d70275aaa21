use super::*;
use std::os::unix::fs::PermissionsExt;

type Found = BTreeMap<String, (Vec<u8>, u32, Option<String>)>;

fn read_back(tar: &[u8]) -> Found {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .map(|mut entry| {
            let header = entry.header().clone();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let link = entry.link_name().unwrap().map(|it| it.to_string_lossy().into_owned());
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).unwrap();
            (name, (bytes, header.mode().unwrap(), link))
        })
        .collect()
}

fn some_image(root: &Path) -> Image {
    let program = root.join("program");
    std::fs::write(&program, "#!/bin/true\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let lower = Layer::default().text("/etc/passwd", "root\n").with("/tmp", Entry::Folder { mode: 0o1777 });
    let upper = Layer::default().program("/usr/local/bin/it", &program).link("/usr/local/bin/also", "it");
    Image {
        references: vec!["docker.io/istio/examples-bookinfo-reviews-v1:1.20.3".to_owned()],
        entrypoint: vec!["/usr/local/bin/it".to_owned()],
        command: vec!["service".to_owned(), "reviews".to_owned()],
        environment: [("PATH".to_owned(), "/bin".to_owned())].into(),
        user: "1337:1337".to_owned(),
        labels: BTreeMap::new(),
        layers: vec![lower, upper],
    }
}

#[test]
fn an_image_is_read_back_as_it_was_described() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("out/image.tar");
    let id = some_image(root.path()).write(&path).unwrap();
    let image = read_back(&std::fs::read(&path).unwrap());
    let manifest: Value = serde_json::from_slice(&image["manifest.json"].0).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "docker.io/istio/examples-bookinfo-reviews-v1:1.20.3");
    assert_eq!(manifest[0]["Config"], format!("{id}.json"));
    let config: Value = serde_json::from_slice(&image[&format!("{id}.json")].0).unwrap();
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/it"]));
    assert_eq!(config["config"]["Cmd"], json!(["service", "reviews"]));
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin"]));
    assert_eq!(config["config"]["User"], "1337:1337");
    assert_eq!(config["config"]["WorkingDir"], "/");
    let mut found = Found::new();
    for (layer, diff_id) in manifest[0]["Layers"].as_array().unwrap().iter().zip(0..) {
        let bytes = &image[layer.as_str().unwrap()].0;
        let digest = format!("sha256:{}", hex(&Sha256::digest(bytes)));
        assert_eq!(config["rootfs"]["diff_ids"][diff_id], digest.as_str());
        found.extend(read_back(bytes));
    }
    assert_eq!(found["usr/local/bin/it"], (b"#!/bin/true\n".to_vec(), 0o755, None));
    assert_eq!(found["usr/local/bin/also"].2.as_deref(), Some("it"));
    assert_eq!((found["tmp"].1, found["usr/local"].1), (0o1777, 0o755));
    // Nothing else is left beside it.
    assert_eq!(std::fs::read_dir(root.path().join("out")).unwrap().count(), 1);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one.tar"), root.path().join("two.tar"));
    let first = some_image(root.path()).write(&one).unwrap();
    assert_eq!(some_image(root.path()).write(&two).unwrap(), first);
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(&two).unwrap());
    std::fs::write(root.path().join("program"), "another").unwrap();
    let mut changed = some_image(root.path());
    changed.command.clear();
    assert_ne!(changed.write(&two).unwrap(), first);
}

#[test]
fn a_missing_file_is_named_and_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let mut image = some_image(root.path());
    image.layers.push(Layer::default().program("/x", &root.path().join("missing")));
    let error = image.write(&root.path().join("out/image.tar")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(std::fs::read_dir(root.path().join("out")).unwrap().count(), 0);
}

#[test]
fn a_reference_needs_a_tag() {
    for (text, good) in [
        ("navarch/pilot:0.1.0", true),
        ("localhost:5000/pilot:1", true),
        ("localhost:5000/pilot", false),
        ("pilot", false),
        ("pilot:", false),
    ] {
        assert_eq!(is_reference(text), good, "{text}");
    }
    let image = Image { references: vec!["pilot".to_owned()], ..Image::default() };
    let why = image.write(Path::new("unused.tar")).unwrap_err().to_string();
    assert!(why.contains("pilot") && why.contains("tag"), "{why}");
}

#[test]
fn what_ldd_prints_is_understood() {
    let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
        \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f10)\n\
        \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f11)\n\
        \t/lib64/ld-linux-x86-64.so.2 (0x00007f12)\n";
    let paths: Vec<String> = parse_ldd(text).unwrap().iter().map(|it| it.path.display().to_string()).collect();
    assert_eq!(
        paths,
        ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
    );
    assert_eq!(parse_ldd("\tstatically linked\n").unwrap(), []);
    assert_eq!(parse_ldd("\tnot a dynamic executable\n").unwrap(), []);
    assert_eq!(parse_ldd("\tlibx.so.1 => not found\n").unwrap_err(), "libx.so.1 is not found");
}

#[test]
fn a_real_program_comes_with_its_loader_and_runs_on_its_libraries_alone() {
    let program = std::env::current_exe().unwrap();
    let found = libraries(&program).unwrap();
    let names: Vec<_> = found.iter().filter_map(|it| it.path.file_name()?.to_str()).collect();
    assert!(names.contains(&"libc.so.6") && names.iter().any(|it| it.starts_with("ld-linux")), "{names:?}");
    let error = libraries(Path::new("/nonexistent/program")).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/program"), "{error}");
}

#[test]
fn images_share_their_base_and_have_the_names_that_charts_use() {
    let this = std::env::current_exe().unwrap();
    let programs = Programs { navarch: this.clone(), envoy: this.clone(), nft: this.clone(), xtables: this.clone() };
    let (pilot, proxy) = (pilot(&programs, "0.1.0").unwrap(), proxy(&programs, "0.1.0").unwrap());
    let app = app("docker.io/istio/examples-bookinfo-ratings-v1:1.20.3", &this, &["service"]).unwrap();
    assert_eq!(pilot.references, ["navarch/pilot:0.1.0"]);
    assert_eq!(proxy.references, ["navarch/proxyv2:0.1.0"]);
    assert_eq!(pilot.entrypoint, ["/usr/local/bin/pilot-discovery"]);
    assert_eq!(proxy.entrypoint, ["/usr/local/bin/pilot-agent"]);
    assert_eq!(pilot.user, "1337:1337");
    // Traffic of the proxy's user is not captured, so no application may have it.
    assert_ne!(app.user, proxy.user);
    assert_eq!(pilot.layers[0], proxy.layers[0]);
    assert_eq!(pilot.layers[0], app.layers[0]);
    let tools = proxy.layers[1].entries();
    for name in ["usr/local/bin/envoy", "usr/sbin/nft", "usr/sbin/iptables-restore", "usr/sbin/ip6tables-save"] {
        assert!(tools.contains_key(Path::new(name)), "{name}");
    }
    // What the base has is not there twice.
    assert!(!tools.keys().any(|it| it.ends_with("libc.so.6")));
}
