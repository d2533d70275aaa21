//! Bundles that are used and bundles that are not (S25, F29, F31), and answers of a CA that an agent does not use.
use super::*;
use crate::authority::{Authority as Ca, Options};
use crate::csr;
use crate::store::Bytes;
use crate::testing::{DAY, Maker, Plugged, TEN_YEARS, files, identity, now, root};

fn refusal(files: &Files) -> BundleError {
    Bundle::from_files(files).unwrap_err()
}

fn set(files: &mut Files, name: &str, text: String) {
    files.insert(name.to_owned(), Bytes::new(text.into_bytes()));
}

#[test]
fn s25_both_formats_are_read() {
    let plugged = Plugged::new(now());
    let istio = Bundle::from_files(&plugged.files()).unwrap().unwrap();
    assert_eq!(istio.intermediates, [plugged.signing.clone(), plugged.middle.clone()]);
    assert_eq!(istio.roots, std::slice::from_ref(&plugged.root));
    let kubernetes = files([
        ("tls.crt", format!("{}{}", plugged.signing.to_pem(), plugged.middle.to_pem())),
        ("tls.key", plugged.key.to_pem().unwrap().expose().to_owned()),
        ("ca.crt", plugged.root.to_pem()),
    ]);
    let kubernetes = Bundle::from_files(&kubernetes).unwrap().unwrap();
    assert_eq!((kubernetes.intermediates, kubernetes.roots), (istio.intermediates.clone(), istio.roots.clone()));
    istio.check_time(now()).unwrap();
    assert!(Bundle::from_files(&Files::new()).unwrap().is_none());
}

#[test]
fn s25_the_root_at_the_end_of_the_chain_is_not_sent_twice() {
    let plugged = Plugged::new(now());
    let mut files = plugged.files();
    let chain = [&plugged.signing, &plugged.middle, &plugged.root].map(Certificate::to_pem).concat();
    set(&mut files, "cert-chain.pem", chain);
    assert_eq!(Bundle::from_files(&files).unwrap().unwrap().intermediates.len(), 2);
}

#[test]
fn s25_an_incomplete_bundle_is_refused() {
    for name in ["ca-cert.pem", "ca-key.pem", "root-cert.pem"] {
        let mut files = Plugged::new(now()).files();
        files.remove(name);
        assert_eq!(refusal(&files), BundleError::Incomplete(name));
        set(&mut files, name, String::new());
        assert_eq!(refusal(&files), BundleError::Incomplete(name), "empty");
    }
}

#[test]
fn s25_another_key_is_refused() {
    let mut files = Plugged::new(now()).files();
    let other = PrivateKey::generate(KeyKind::P256).unwrap().to_pem().unwrap();
    set(&mut files, "ca-key.pem", other.expose().to_owned());
    assert_eq!(refusal(&files), BundleError::KeyMismatch);
}

#[test]
fn s25_garbage_is_refused_without_repeating_it() {
    let mut files = Plugged::new(now()).files();
    set(&mut files, "ca-key.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n".to_owned());
    let refused = refusal(&files);
    assert_eq!(refused, BundleError::Key(KeyError::Kind));
    assert!(!format!("{refused} {refused:?} {files:?}").contains("c2VjcmV0"));
    set(&mut files, "ca-cert.pem", "hello".to_owned());
    assert_eq!(refusal(&files), BundleError::Read("ca-cert.pem", ReadError::None));
}

/// A signing certificate straight under the root, as changed.
fn under_root(change: impl FnOnce(Maker) -> Maker) -> (Plugged, Files) {
    let mut plugged = Plugged::new(now());
    let maker = change(Maker::authority(now(), "signing"));
    plugged.signing = maker.signed_by(&plugged.key, &plugged.root, &plugged.root_key);
    let mut files = plugged.files();
    files.remove("cert-chain.pem");
    (plugged, files)
}

#[test]
fn s25_a_leaf_or_a_ca_that_may_not_sign_is_refused() {
    assert!(Bundle::from_files(&under_root(|maker| maker).1).is_ok());
    let leaf = under_root(|maker| maker.with(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa)).1;
    assert_eq!(refusal(&leaf), BundleError::NotAuthority);
    let usage = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    let no_sign = under_root(|maker| maker.with(|params| params.key_usages = usage)).1;
    assert_eq!(refusal(&no_sign), BundleError::NotAuthority);
}

#[test]
fn s25_f31_a_bundle_out_of_time_is_refused() {
    let expired = under_root(|maker| maker.valid(now() - DAY * 3, now() - DAY)).1;
    assert_eq!(Bundle::from_files(&expired).unwrap().unwrap().check_time(now()), Err(BundleError::Expired));
    let early = under_root(|maker| maker.valid(now() + DAY, now() + DAY * 3)).1;
    assert_eq!(Bundle::from_files(&early).unwrap().unwrap().check_time(now()), Err(BundleError::NotYetValid));
}

#[test]
fn s25_a_path_length_that_forbids_the_signing_ca_is_refused() {
    let mut plugged = Plugged::new(now());
    let middle_key = PrivateKey::generate(KeyKind::P256).unwrap();
    plugged.middle =
        Maker::authority(now(), "m").path_length(0).signed_by(&middle_key, &plugged.root, &plugged.root_key);
    plugged.signing = Maker::authority(now(), "s").signed_by(&plugged.key, &plugged.middle, &middle_key);
    assert_eq!(refusal(&plugged.files()), BundleError::PathLength);
    // Its own path length of 0 is right: no CA stands below it.
    assert!(Bundle::from_files(&under_root(|maker| maker.path_length(0)).1).is_ok());
}

#[test]
fn s25_a_chain_that_does_not_end_in_a_root_is_refused() {
    let plugged = Plugged::new(now());
    let mut files = plugged.files();
    set(&mut files, "root-cert.pem", root(now()).roots_pem());
    assert_eq!(refusal(&files), BundleError::NoRoot);
    let mut files = plugged.files();
    files.remove("cert-chain.pem");
    assert_eq!(refusal(&files), BundleError::NoRoot);
}

#[test]
fn s29_roots_that_cannot_be_read_are_left_out_one_by_one() {
    let plugged = Plugged::new(now());
    let mut files = plugged.files();
    let bad = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let other = root(now());
    set(&mut files, "root-cert.pem", format!("{bad}{}{}", other.roots_pem(), plugged.root.to_pem()));
    let bundle = Bundle::from_files(&files).unwrap().unwrap();
    assert_eq!(bundle.roots, [other.signing, plugged.root]);
    assert_eq!(bundle.roots_left_out, 1);
}

#[test]
fn the_secret_of_istio_is_read_with_keys_of_all_forms() {
    for kind in [KeyKind::P256, KeyKind::Rsa2048] {
        let made = Bundle::self_signed(kind, TEN_YEARS, "cluster.local", now()).unwrap();
        let mut files = made.to_files().unwrap();
        let again = Bundle::from_files(&files).unwrap().unwrap();
        assert_eq!((&again.signing, &again.roots), (&made.signing, &made.roots));
        // As Istio itself writes it: nothing but certificate and key.
        set(&mut files, "cert-chain.pem", String::new());
        set(&mut files, "root-cert.pem", String::new());
        set(&mut files, "key.pem", String::new());
        assert_eq!(Bundle::from_files(&files).unwrap().unwrap().roots, made.roots);
    }
}

#[test]
fn f30_a_renewed_root_fits_what_the_old_one_signed_and_the_other_way_round() {
    let old = root(now());
    let later = now() + TEN_YEARS;
    let new = old.renewed(TEN_YEARS, later).unwrap();
    assert_eq!(new.signing.facts.subject, old.signing.facts.subject);
    assert_eq!(new.signing.facts.key_id, old.signing.facts.key_id);
    assert!(new.signing.facts.not_after > old.signing.facts.not_after);
    assert_ne!(new.signing.facts.serial, old.signing.facts.serial);
    for (signer, trusted) in [(&old, &new), (&new, &old)] {
        let (key, csr) = csr::request(&identity(), KeyKind::P256).unwrap();
        let at = later - DAY;
        let Ok(issued) = Ca::new(signer.clone(), Options::default()).sign(&csr, &identity(), None, at) else {
            // The new one is not valid yet a day before it is made.
            continue;
        };
        let key = PrivateKey::from_pem(key.expose().as_bytes()).unwrap();
        check_chain(&issued.chain, &key, &identity(), &trusted.roots_pem(), at).unwrap();
    }
    old.may_become(&new).unwrap();
}

#[test]
fn f29_roots_change_in_steps_whatever_their_order() {
    let (a, b) = (Plugged::new(now()), Plugged::new(now()));
    let bundle = |signer: &Plugged, roots: &[&Plugged]| {
        let mut files = signer.files();
        set(&mut files, "root-cert.pem", roots.iter().map(|plugged| plugged.root.to_pem()).collect());
        Bundle::from_files(&files).unwrap().unwrap()
    };
    let steps = [bundle(&a, &[&a]), bundle(&a, &[&b, &a]), bundle(&b, &[&a, &b]), bundle(&b, &[&b])];
    for pair in steps.windows(2) {
        pair[0].may_become(&pair[1]).unwrap();
        pair[1].may_become(&pair[0]).unwrap();
    }
    // Steps that would leave some proxies without a root they know.
    assert_eq!(steps[0].may_become(&steps[2]), Err(BundleError::Unrelated));
    assert_eq!(steps[0].may_become(&steps[3]), Err(BundleError::Unrelated));
    assert_eq!(steps[1].may_become(&bundle(&b, &[&b])), Ok(()));
}

#[test]
fn an_agent_does_not_use_an_answer_that_does_not_fit() {
    let (ca, (key, csr)) = (root(now()), csr::request(&identity(), KeyKind::P256).unwrap());
    let key = PrivateKey::from_pem(key.expose().as_bytes()).unwrap();
    let roots = ca.roots_pem();
    let issued = Ca::new(ca, Options::default()).sign(&csr, &identity(), None, now()).unwrap();
    let chain = check_chain(&issued.chain, &key, &identity(), &roots, now()).unwrap();
    assert_eq!((chain.certificates_pem.as_str(), chain.roots_pem.as_str()), (issued.chain[0].as_str(), roots.as_str()));
    assert!(check_chain(&issued.chain, &key, &identity(), "", now()).is_ok());
    let other_key = PrivateKey::generate(KeyKind::P256).unwrap();
    let other_identity = Identity::new("cluster.local", "default", "ratings");
    let other_root = root(now()).roots_pem();
    let check = |key: &PrivateKey, identity: &Identity, roots: &str, at| {
        check_chain(&issued.chain, key, identity, roots, at).unwrap_err()
    };
    assert_eq!(check(&other_key, &identity(), &roots, now()), ChainError::Key);
    assert_eq!(check(&key, &other_identity, &roots, now()), ChainError::Identity);
    assert_eq!(check(&key, &identity(), &other_root, now()), ChainError::Root);
    assert_eq!(check_chain(&[], &key, &identity(), &roots, now()), Err(ChainError::Empty));
    // F26: both times are told.
    let late = check(&key, &identity(), &roots, now() + DAY * 2);
    assert!(late.to_string().contains(&unix_s(now() + DAY * 2).to_string()), "{late}");
}
