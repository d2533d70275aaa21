//! Replicas racing for one root, roots renewed, files swapped; good bundles taken, bad ones refused with the old one left.
use super::*;
use crate::csr;
use crate::testing::{DAY, Memory, Plugged, TEN_YEARS, TestClock, block_on, identity, now};
use futures::FutureExt as _;
use futures::task::noop_waker;
use proptest::prelude::*;
use std::pin::Pin;
use std::task::{Context, Poll};

type Opening = Pin<Box<dyn Future<Output = Result<Keeper, StoreError>>>>;

fn options() -> Options {
    Options { folder: PathBuf::from("/nonexistent/cacerts"), ..Options::new("cluster.local") }
}

async fn open(store: &Arc<Memory>, options: Options, clock: &TestClock) -> Result<Keeper, StoreError> {
    Keeper::open(store.clone(), options, clock.clock(), Arc::default()).await
}

fn root_of(keeper: &Keeper) -> String {
    keeper.authority().borrow().roots_pem().to_string()
}

fn stored_root(store: &Memory) -> String {
    Bundle::from_files(&store.files(ISTIO_CA_SECRET).unwrap()).unwrap().unwrap().roots_pem()
}

#[tokio::test]
async fn s26_a_root_is_made_once_and_found_again() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    let first = open(&store, options(), &clock).await.unwrap();
    let second = open(&store, options(), &clock).await.unwrap();
    assert_eq!(root_of(&first), root_of(&second));
    assert_eq!((store.writes(), stored_root(&store)), (1, root_of(&first)));
    let files = store.files(ISTIO_CA_SECRET).unwrap();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);
    let authority = first.authority().borrow().clone();
    let ends = authority.bundle().chain_end();
    assert_eq!(ends, now() + TEN_YEARS);
}

#[tokio::test]
async fn s26_istio_ca_secret_comes_before_a_cacerts_of_our_own() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    let cacerts = Options { secret: SecretChoice::Cacerts, ..options() };
    let first = open(&store, cacerts.clone(), &clock).await.unwrap();
    assert!(store.files(CACERTS).unwrap().contains_key("istio-generated"));
    assert!(store.files(ISTIO_CA_SECRET).is_none());
    let other = open(&Arc::new(Memory::default()), options(), &clock).await.unwrap();
    store.put(ISTIO_CA_SECRET, &other.seen);
    let second = open(&store, cacerts, &clock).await.unwrap();
    assert_eq!(root_of(&second), root_of(&other));
    assert_ne!(root_of(&second), root_of(&first));
}

#[tokio::test]
async fn a_broken_secret_is_never_replaced_by_a_new_root() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    store.put(ISTIO_CA_SECRET, &Files::from([("ca-cert.pem".to_owned(), Bytes::new(b"garbage".to_vec()))]));
    let error = open(&store, options(), &clock).await.unwrap_err();
    assert!(matches!(&error, StoreError::Bundle { error: BundleError::Incomplete("ca-key.pem"), .. }), "{error}");
    assert_eq!(store.writes(), 1);
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_reason_for_a_new_root() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    *store.failures.lock().unwrap() = 1;
    let error = open(&store, options(), &clock).await.unwrap_err();
    assert!(matches!(error, StoreError::Access { error: AccessError::Unavailable(_), .. }));
    assert_eq!(store.writes(), 0);
    let mut keeper = open(&store, options(), &clock).await.unwrap();
    let root = root_of(&keeper);
    *store.failures.lock().unwrap() = 1;
    assert!(keeper.step().await.is_err());
    assert_eq!(root_of(&keeper), root);
    keeper.step().await.unwrap();
}

#[tokio::test]
async fn f30_a_root_is_renewed_with_its_key_and_everybody_follows() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    let options = Options { root_ttl: DAY, ..options() };
    let mut first = open(&store, options.clone(), &clock).await.unwrap();
    let mut second = open(&store, options.clone(), &clock).await.unwrap();
    let old = first.authority().borrow().clone();
    clock.advance(DAY / 2);
    first.step().await.unwrap();
    assert_eq!(store.writes(), 1);
    clock.advance(DAY * 2 / 5);
    first.step().await.unwrap();
    second.step().await.unwrap();
    assert_eq!((store.writes(), root_of(&first)), (2, root_of(&second)));
    let new = first.authority().borrow().clone();
    assert_ne!(old.roots_pem(), new.roots_pem());
    assert_eq!(old.bundle().signing.facts.public_key_info, new.bundle().signing.facts.public_key_info);
    // Long after its end it is still renewed, with the next start.
    clock.advance(DAY * 10);
    let third = open(&store, options, &clock).await.unwrap();
    let csr = csr::request(&identity(), KeyKind::P256).unwrap().1;
    third.authority().borrow().sign(&csr, &identity(), None, clock.now()).unwrap();
    assert_eq!(store.writes(), 3);
}

#[tokio::test]
async fn f31_a_broken_secret_leaves_the_old_authority() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    let mut keeper = open(&store, options(), &clock).await.unwrap();
    let root = root_of(&keeper);
    let good = store.files(ISTIO_CA_SECRET).unwrap();
    let mut bad = good.clone();
    bad.remove("ca-key.pem");
    store.put(ISTIO_CA_SECRET, &bad);
    assert!(keeper.step().await.is_err());
    store.secrets.lock().unwrap().clear();
    assert!(keeper.step().await.is_err());
    assert_eq!(root_of(&keeper), root);
    assert!(store.files(ISTIO_CA_SECRET).is_none(), "a deleted Secret is not made again");
    store.put(ISTIO_CA_SECRET, &good);
    keeper.step().await.unwrap();
}

fn write(folder: &std::path::Path, files: &Files) {
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes.expose()).unwrap();
    }
}

#[tokio::test]
async fn s25_f15_mounted_files_come_first_and_are_followed_through_the_symlink() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    let folder = tempfile::tempdir().unwrap();
    let generation = |name: &str, files: &Files| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        write(&folder.path().join(name), files);
        let link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(name, &link).unwrap();
        std::fs::rename(link, folder.path().join("..data")).unwrap();
    };
    let first = Plugged::new(now());
    generation("..1", &first.files());
    for name in first.files().keys() {
        std::os::unix::fs::symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let options = Options { folder: folder.path().to_owned(), ..options() };
    let mut keeper = open(&store, options, &clock).await.unwrap();
    assert_eq!(store.writes(), 0);
    assert_eq!(root_of(&keeper), first.root.to_pem());
    // The same root, another signer: taken.
    let mut next = Plugged::new(now());
    next.signing = crate::testing::Maker::authority(now(), "next").signed_by(&next.key, &first.root, &first.root_key);
    next.root = first.root.clone();
    let mut files = next.files();
    files.insert("cert-chain.pem".to_owned(), Bytes::default());
    generation("..2", &files);
    keeper.step().await.unwrap();
    assert_eq!(keeper.authority().borrow().bundle().signing, next.signing);
    // F31: half a bundle, then another root at once: refused, told once, the old one stays.
    let unrelated = Plugged::new(now()).files();
    let mut half = unrelated.clone();
    half.remove("ca-key.pem");
    for (name, bad) in [("..3", half), ("..4", unrelated)] {
        let before = keeper.metrics.root_bundle_refused.value();
        generation(name, &bad);
        assert!(keeper.step().await.is_err(), "{name}");
        assert!(keeper.step().await.is_ok(), "{name}");
        assert_eq!(keeper.metrics.root_bundle_refused.value(), before + 1);
        assert_eq!(keeper.authority().borrow().bundle().signing, next.signing);
    }
    generation("..5", &files);
    keeper.step().await.unwrap();
}

#[tokio::test]
async fn s25_half_a_bundle_at_the_start_is_an_error_not_a_new_root() {
    let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
    let folder = tempfile::tempdir().unwrap();
    let mut files = Plugged::new(now()).files();
    files.remove("ca-key.pem");
    write(folder.path(), &files);
    let options = Options { folder: folder.path().to_owned(), ..options() };
    let error = open(&store, options.clone(), &clock).await.unwrap_err();
    assert!(error.to_string().ends_with("incomplete: ca-key.pem is missing"), "{error}");
    assert_eq!(store.writes(), 0);
    write(folder.path(), &Plugged::new(now()).files());
    clock.advance(DAY * 1000);
    let error = open(&store, options, &clock).await.unwrap_err();
    assert!(matches!(error, StoreError::Bundle { error: BundleError::Expired, .. }));
}

/// Polls `openings` one at a time in the order told, until all are done.
fn race(mut openings: Vec<Opening>, order: &[usize]) -> Vec<Keeper> {
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    let mut done: Vec<Option<Keeper>> = openings.iter().map(|_| None).collect();
    let mut order = order.iter().copied().chain(0..);
    while done.iter().any(Option::is_none) {
        let next = order.next().unwrap() % openings.len();
        if done[next].is_none()
            && let Poll::Ready(keeper) = openings[next].as_mut().poll(&mut context)
        {
            done[next] = Some(keeper.unwrap());
        }
    }
    done.into_iter().map(Option::unwrap).collect()
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    /// A replica looks at the Secret.
    Look(usize),
    /// Both look at once, polled in this order.
    Both(u16),
    Hours(u64),
    /// The store fails the next call.
    Fail,
    Restart(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..2_usize).prop_map(Happening::Look),
        any::<u16>().prop_map(Happening::Both),
        (1..12_u64).prop_map(Happening::Hours),
        Just(Happening::Fail),
        (0..2_usize).prop_map(Happening::Restart),
    ]
}

fn both(keepers: &mut [Keeper], order: u16) {
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    let mut steps: Vec<_> = keepers.iter_mut().map(|keeper| Some(keeper.step().boxed())).collect();
    let mut turn = 0;
    while steps.iter().any(Option::is_some) {
        let next = usize::from(order >> (turn % 16) & 1);
        // Past the sixteenth turn strictly in turns, so that it ends.
        let next = if turn < 16 { next } else { turn % 2 };
        turn += 1;
        if steps[next].as_mut().is_some_and(|step| step.as_mut().poll(&mut context).is_ready()) {
            steps[next] = None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn f30_replicas_racing_create_exactly_one_root(order in proptest::collection::vec(0..3_usize, 0..24)) {
        let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
        let openings = (0..3).map(|_| {
            let (store, clock) = (store.clone(), clock.clone());
            Box::pin(async move { open(&store, options(), &clock).await }) as Opening
        });
        let keepers = race(openings.collect(), &order);
        prop_assert_eq!(store.writes(), 1);
        for keeper in &keepers {
            prop_assert_eq!(root_of(keeper), stored_root(&store));
        }
    }

    /// Whatever happens: one key for ever, every replica on a root that was stored, and in the end the same for all.
    #[test]
    fn f30_random_histories_of_two_replicas(history in proptest::collection::vec(happening(), 1..40)) {
        let (store, clock) = (Arc::new(Memory::default()), TestClock::at(now()));
        let options = Options { root_ttl: DAY, ..options() };
        let again = || open(&store, options.clone(), &clock);
        let mut keepers: Vec<Keeper> = (0..2).map(|_| block_on(again()).unwrap()).collect();
        let key = keepers[0].authority().borrow().bundle().signing.facts.public_key_info.clone();
        for happening in history {
            match happening {
                Happening::Look(replica) => drop(block_on(keepers[replica].step())),
                Happening::Both(order) => both(&mut keepers, order),
                Happening::Hours(hours) => clock.advance(Duration::from_secs(hours * 3600)),
                Happening::Fail => *store.failures.lock().unwrap() = 1,
                Happening::Restart(replica) => if let Ok(keeper) = block_on(again()) {
                    keepers[replica] = keeper;
                },
            }
            let stored: Vec<_> = store.history.lock().unwrap().iter()
                .map(|files| Bundle::from_files(files).unwrap().unwrap().roots_pem()).collect();
            for keeper in &keepers {
                prop_assert!(stored.contains(&root_of(keeper)));
                let authority = keeper.authority().borrow().clone();
                prop_assert_eq!(&authority.bundle().signing.facts.public_key_info, &key);
            }
        }
        *store.failures.lock().unwrap() = 0;
        for _ in 0..2 {
            for keeper in &mut keepers {
                block_on(keeper.step()).unwrap();
            }
        }
        for keeper in &keepers {
            prop_assert_eq!(root_of(keeper), stored_root(&store));
            keeper.authority().borrow().bundle().check_time(clock.now()).unwrap();
        }
    }
}
