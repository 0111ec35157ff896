//! `routerctl bench grow`: small sweeps from end to end, what they write, and what is said of mistakes.

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use switchboard_tests::{Scratch, binary};

/// Runs `routerctl bench grow`, and with it the router that was built with the tests.
fn grow(args: &[&str]) -> Output {
    let mut command = Command::new(binary::routerctl());
    command.args(["bench", "grow", "--quiet", "--rounds", "1", "--messages", "4000"]);
    command.args(["--registered", "2000"]);
    for (option, sizes) in [("--instances", "10,100"), ("--copies", "3,20")] {
        if !args.contains(&option) {
            command.args([option, sizes]);
        }
    }
    command.args(["--active", "1,12", "--shards", "1,2"]);
    if !args.contains(&"--router") {
        command.arg("--router").arg(binary::router());
    }
    command.args(args).stdin(Stdio::null()).output().expect("routerctl starts")
}

#[track_caller]
fn usage(args: &[&str], expected: &str) {
    let output = grow(args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("routerctl: {expected}\n"));
}

#[test]
fn small_sweeps_write_json_a_plot_and_tables_with_every_size() {
    let scratch = Scratch::new();
    let (svg, page) = (scratch.file("growth.svg"), scratch.file("page.md"));
    std::fs::write(&page, "# Page\n\n<!-- grow: begin -->\nold\n<!-- grow: end -->\n\nend\n")
        .expect("the page is written");
    let paths = ["--svg", svg.to_str().expect("text"), "--page", page.to_str().expect("text")];
    let output = grow(&[&paths[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["ok"], true, "{json}");
    let sizes = |series: &Value| -> Vec<u64> {
        let points = series["points"].as_array().expect("points");
        for point in points {
            assert!(point["cost"].as_f64() > Some(0.0), "{series}");
            assert!(point["per_second"].as_f64() > Some(0.0), "{series}");
        }
        points.iter().filter_map(|point| point["size"].as_u64()).collect()
    };
    let steps: Vec<u64> = (1..=20).map(|step| step * 100).collect();
    let expected: [(&str, usize, &[u64]); 5] = [
        ("frame_by_instances", 3, &[10, 100]),
        ("registration_by_instances", 2, &steps),
        ("broadcast_by_copies", 2, &[3, 20]),
        ("message_by_connections", 2, &[1, 12]),
        ("message_by_shards", 1, &[1, 2]),
    ];
    let sweeps = json["sweeps"].as_array().expect("sweeps");
    assert_eq!(sweeps.len(), expected.len());
    for (sweep, (key, ways, expected)) in sweeps.iter().zip(expected) {
        assert_eq!(sweep["key"], key);
        let series = sweep["series"].as_array().expect("series");
        assert_eq!(series.len(), ways, "{key}");
        assert!(series.iter().all(|series| sizes(series) == expected), "{sweep:#}");
    }

    // Every point of every series, as an XML parser finds it.
    let count = "import sys, xml.dom.minidom as dom; \
                 print(len(dom.parse(sys.argv[1]).getElementsByTagName('circle')))";
    let parsed = Command::new("python3").args(["-c", count]).arg(&svg).output().expect("python3");
    let points = 3 * 2 + 2 * 20 + 2 * 2 + 2 * 2 + 2;
    assert_eq!(String::from_utf8_lossy(&parsed.stdout).trim(), points.to_string(), "{parsed:?}");

    let text = std::fs::read_to_string(&page).expect("the page");
    assert!(text.starts_with("# Page\n\n<!-- grow: begin -->\nMeasured on 20"), "{text}");
    assert!(text.ends_with("|\n<!-- grow: end -->\n\nend\n"), "{text}");
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('(')).count();
    // Of the steps of registration 100, 200, 500, 1,000 and 2,000.
    assert_eq!(rows, 2 + 5 + 2 + 2 + 2, "{text}");
}

#[test]
fn what_cannot_be_swept_or_written_is_said_before_anything_starts() {
    usage(
        &["--router", "/no/such", "--instances", "10,25"],
        "--instances: 25 can't be dealt evenly to 10 connections: give multiples of it",
    );
    usage(
        &["--router", "/no/such", "--copies", "20,3"],
        "--copies: the numbers have to ascend, such as 10,100,1000",
    );
    let scratch = Scratch::new();
    let page = scratch.file("page.md");
    std::fs::write(&page, "no marks").expect("the page is written");
    let path = page.to_str().expect("text");
    usage(
        &["--router", "/no/such", "--page", path],
        &format!(
            "--page: {path}: the tables go between a line `<!-- grow: begin -->` and a later line `<!-- grow: end -->`"
        ),
    );
    assert_eq!(std::fs::read_to_string(&page).expect("the page"), "no marks");
}
