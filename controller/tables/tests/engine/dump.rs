//! What a person sees of the tables.

use crate::toy::{Batch, Pod, Proxy, World};
use tables::{ReadText, RowText, What};

fn world() -> World {
    let mut world = World::new(1);
    world.commit(Batch {
        pods: vec![(1, Some(Pod { app: 1, address: 10, noise: 0 })), (2, Some(Pod { app: 1, address: 20, noise: 0 }))],
        rules: vec![],
        proxies: vec![(4, Some(Proxy { apps: vec![1, 3], port: 8000 }))],
    });
    world
}

fn row(world: &World, table: &str, key: &str) -> String {
    world.commit.dump_row(&world.tables(), table, key).unwrap().to_string()
}

#[test]
fn a_table_is_listed_by_key() {
    let dump = world().dump();
    let names: Vec<_> = dump.iter().map(|table| table.name).collect();
    assert_eq!(names[..4], ["pods", "rules", "proxies", "pods_by_app"]);
    let row = |key: &str, value: Option<&str>| RowText { key: key.into(), value: value.map(str::to_owned) };
    assert_eq!(dump[3].rows, [row("1", Some("{1, 2}"))]);
    let route = "Route { app: 1, endpoints: [10, 20], weight: None }";
    assert_eq!(dump[6].rows, [row("(1, 8000)", Some(route)), row("(3, 8000)", None)]);
}

#[test]
fn a_row_names_what_it_read_and_who_read_it() {
    let world = world();
    assert_eq!(
        row(&world, "endpoints", "1"),
        "endpoints[1] = [10, 20]\n  reads the members of pods_by_app[1]\n  read by routes[(1, 8000)]\n"
    );
    let route = world.commit.dump_row(&world.tables(), "routes", "(1, 8000)").unwrap();
    let [endpoints, rule] = &route.reads[..] else { panic!("{route}") };
    assert_eq!(*endpoints, ReadText { table: "endpoints", what: What::Row("1".into()) });
    assert_eq!(*rule, ReadText { table: "rules", what: What::Absent }, "no rule for app 1 is an answer, too");
    assert_eq!(route.readers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["route_tables[8000]"]);
    assert_eq!(row(&world, "weights", "()"), "weights[()] = 7\n  reads all of rules\n  read by snapshots[4]\n",);
}

/// A pushed resource can be traced to the objects that it was made from, and back.
#[test]
fn the_trail_goes_through_indexes() {
    let world = world();
    assert_eq!(row(&world, "pods", "2"), "pods[2] = Pod { app: 1, address: 20, noise: 0 }\n  read by pods_by_app[1]\n");
    assert_eq!(
        row(&world, "pods_by_app", "1"),
        "pods_by_app[1] = {1, 2}\n  reads pods[1]\n  reads pods[2]\n  read by endpoints[1]\n"
    );
    let table = row(&world, "route_tables", "8000");
    assert!(table.ends_with("}\n  reads routes[(1, 8000)]\n  read by snapshots[4]\n"), "{table}");
}

#[test]
fn what_does_not_exist_has_no_dump() {
    let world = world();
    assert_eq!(world.commit.dump_row(&world.tables(), "pods", "3"), None);
    assert_eq!(world.commit.dump_row(&world.tables(), "nobody", "1"), None);
}
