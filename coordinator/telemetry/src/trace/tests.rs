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

#[test]
fn the_share_is_what_the_variables_say_and_no_slip_of_the_pen_is_another_share() {
    let said = |set: &[(&str, &str)]| {
        share(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    };
    let (sampler, arg) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
    assert_eq!(
        (said(&[]), said(&[(arg, "")]), said(&[(arg, "0.5")])),
        (Ok(Some(SHARE)), Ok(Some(SHARE)), Ok(Some(0.5)))
    );
    assert_eq!(said(&[(sampler, "always_on")]), Ok(Some(1.0)));
    assert_eq!(said(&[(sampler, "parentbased_always_off"), (arg, "0.5")]), Ok(None));
    assert_eq!(said(&[(sampler, "parentbased_traceidratio"), (arg, "0.5")]), Ok(Some(0.5)));
    for slip in ["0,5", "5", "-1", "nan", "1%"] {
        assert_eq!(said(&[(arg, slip)]), Err(format!("{arg} is {slip:?}, and no share from 0 to 1")));
    }
    assert!(said(&[(sampler, "jaeger_remote")]).is_err_and(|why| why.contains("\"jaeger_remote\"")));
}
