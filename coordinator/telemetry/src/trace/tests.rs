use super::*;

#[test]
fn the_share_of_traced_steps_is_met_and_every_process_picks_the_same() {
    let traced =
        |run: &str| -> Vec<u64> { (0..20_000).filter(|t| hashed(format_args!("{run}/{t}")).1 < 0.05).collect() };
    let (one, again, other) = (traced("a"), traced("a"), traced("b"));
    assert!((900..1100).contains(&one.len()), "{} of 20000", one.len());
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn nothing_is_announced_while_nothing_exports() {
    assert_eq!(Context::of_step("a", Step(0)), None);
    assert_eq!(Context::of_message("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), None);
}

#[test]
fn a_traceparent_is_read_as_the_standard_says() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let context = parse(&format!("00-{trace}-b7ad6b7169203331-01")).expect("the standard's own example");
    assert_eq!(context.to_string(), format!("00-{trace}-b7ad6b7169203331-01"));
    assert_eq!(parse(&format!("cc-{trace}-b7ad6b7169203331-03-what-comes")), Some(context), "a later version");
    let zeros = "0".repeat(32);
    for refused in [
        String::new(),
        format!("00-{trace}-b7ad6b7169203331-00"),
        format!("00-{trace}-b7ad6b7169203331"),
        format!("00-{trace}-b7ad6b7169203331-01-more"),
        format!("ff-{trace}-b7ad6b7169203331-01"),
        format!("00-{zeros}-b7ad6b7169203331-01"),
        format!("00-{trace}-0000000000000000-01"),
        format!("00-{}-b7ad6b7169203331-01", &trace[1..]),
        format!("00-+{}-b7ad6b7169203331-01", &trace[1..]),
    ] {
        assert_eq!(parse(&refused), None, "{refused}");
    }
}
