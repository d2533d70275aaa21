//! Tables whose rows are pure functions of rows in earlier tables: the incremental engine. It must not
//! know what is in a table: no meshes, no Kubernetes, no Envoy, no clock, no I/O, no async.
//!
//! A [`Table`] is an *input* (rows are set from outside), an *index* of another table ([`Commit::group`],
//! [`Commit::collect`]) or *derived* ([`Commit::derive`]: rows are asked for by rows of earlier tables, and
//! computed by a function that may look at earlier tables only through [`Reads`], which remembers).
//!
//! A commit takes one batch of input changes and walks all tables once, in the order in which
//! [`Commit::table`] made them. A row is computed again if and only if something it read has changed; its
//! readers hear of it if and only if the new value differs. So nobody sees a half-updated world, no row is
//! computed twice in a commit, and nobody writes down by hand what a change may affect.
//!
//! ```
//! use tables::{keys_from, Commit, Reads, Table};
//!
//! struct World {
//!     commit: Commit,
//!     pods: Table<String, (String, u32)>, // name → (app, address)
//!     pods_by_app: Table<String, imbl::OrdSet<String>>,
//!     addresses: Table<String, Vec<u32>>,
//! }
//! type AddressTables<'t> = (&'t Table<String, imbl::OrdSet<String>>, &'t Table<String, (String, u32)>);
//!
//! fn addresses(reads: &mut Reads, (by_app, pods): AddressTables<'_>, app: &String) -> Option<Vec<u32>> {
//!     Some(reads.members(by_app, pods, app).map(|(_, pod)| pod.1).collect())
//! }
//!
//! impl World {
//!     fn commit(&mut self, pods: Vec<(String, Option<(String, u32)>)>) {
//!         let c = &mut self.commit;
//!         c.input(&mut self.pods, pods);
//!         c.group(&mut self.pods_by_app, &self.pods, |_, pod| vec![pod.0.clone()]);
//!         let apps = keys_from(&self.pods_by_app, |app, _| [app.clone()]);
//!         c.derive(&mut self.addresses, &[&apps], (&self.pods_by_app, &self.pods), addresses);
//!     }
//! }
//!
//! let mut commit = Commit::default();
//! let (pods, pods_by_app, addresses) = (commit.table("pods"), commit.table("pods_by_app"), commit.table("addresses"));
//! let mut world = World { commit, pods, pods_by_app, addresses };
//!
//! world.commit(vec![("a".into(), Some(("web".into(), 1))), ("b".into(), Some(("web".into(), 2)))]);
//! assert_eq!(**world.addresses.peek(&"web".into()).unwrap(), [1, 2]);
//!
//! world.commit(vec![("a".into(), Some(("web".into(), 1)))]); // nothing new
//! assert!(world.addresses.changes().is_empty());
//! assert_eq!(world.addresses.computed().last, 0);
//!
//! world.commit(vec![("a".into(), None), ("b".into(), None)]); // nobody asks for `web` any more
//! assert!(world.addresses.is_empty());
//! ```

mod collect;
mod commit;
mod derive;
mod dump;
mod few;
mod group;
mod hash;
mod keys;
mod reads;
mod rubbish;
mod shared;
mod table;
mod who;

pub use commit::Commit;
pub use dump::{Dump, Member, ReadText, RowDump, RowName, RowText, TableDump, What};
pub use keys::{Keys, KeysFrom, keys_from};
pub use reads::{Read, Reads};
pub use shared::Shared;
pub use table::{Change, Computed, Key, Table, TableId, Value};
