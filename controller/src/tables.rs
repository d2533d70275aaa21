//! The tables behind a configuration, as text: which there are, what is in one, and what a row was made of.

use anyhow::{Result, bail};
use std::fmt::Write;
use world::World;

/// All tables by name with the number of their rows; one table's rows (`table`); or those of its rows whose key
/// contains `row`, each with what it read and who read it.
pub fn print(world: &World, table: &str, row: Option<&str>) -> Result<String> {
    let mut text = String::new();
    if table.is_empty() {
        for table in world.tables() {
            writeln!(text, "{:>7} {}", table.dump().rows.len(), table.name())?;
        }
        return Ok(text);
    }
    let Some(found) = world.tables().into_iter().find(|it| it.name() == table) else {
        bail!("no table {table:?}; --tables without a name lists them");
    };
    let rows = found.dump().rows;
    let Some(part) = row else {
        for row in rows {
            writeln!(text, "{} = {}", row.key, row.value.as_deref().unwrap_or("none"))?;
        }
        return Ok(text);
    };
    for row in rows.iter().filter(|it| it.key.contains(part)) {
        let Some(dump) = world.dump_row(table, &row.key) else { continue };
        write!(text, "{dump}")?;
    }
    if text.is_empty() {
        bail!("no key in {table} contains {part:?}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;

    fn shown(arguments: &[&str]) -> Result<String> {
        let all = ["navarch", "translate", "d", "--proxy", "p"].iter().chain(arguments);
        let Command::Translate(args) = Args::parse_from(all).command else { panic!("not translate") };
        let mut world = World::new();
        world.commit(world::Batch::default());
        print(&world, &args.tables.expect("asked for"), args.row.as_deref())
    }

    #[test]
    fn tables_are_listed_in_the_order_of_the_data_flow_and_rows_say_who_read_them() {
        let list = shown(&["--tables"]).unwrap();
        let place = |name: &str| list.lines().position(|line| line.trim_end().ends_with(name)).unwrap();
        assert!(place("mesh") < place("services") && place("services") < place("views"));
        let row = shown(&["--tables", "mesh", "--row", ""]).unwrap();
        assert!(row.contains("read by shared_clusters[()]"), "{row}");
    }

    #[test]
    fn a_name_that_is_none_is_an_error_that_says_how_to_find_one() {
        assert!(shown(&["--tables", "nonsense"]).unwrap_err().to_string().contains("--tables without a name"));
        assert!(shown(&["--tables", "mesh", "--row", "x"]).unwrap_err().to_string().contains("no key in mesh"));
    }
}
