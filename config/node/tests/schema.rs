//! The shipped schema is the one that the types say. `UPDATE_EXPECT=1 cargo test -p config-node` rewrites it.

#[test]
fn the_shipped_schema_is_current() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/node.schema.json");
    let now = config_node::schema();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(shipped, &now).unwrap();
        return;
    }
    assert_eq!(std::fs::read(shipped).unwrap(), now.as_bytes(), "UPDATE_EXPECT=1 rewrites {shipped}");
}
