//! The metrics of a node on a Prometheus page.

use prometheus::{Registry, TextEncoder};
use switchboard::{Caller, Node, Random};
use switchboard_router::{Config, Router};

use crate::support::*;

fn page(registry: &Registry) -> String {
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

#[tokio::test]
async fn a_page_has_calls_by_outcome_latency_and_gauges() {
    let router = Router::start(Config::local().with_class("matchsvr", 5)).unwrap();
    let node = Node::builder("matchsvr.1").router(&router.listen()[0]);
    let node = within(node.connect()).await.unwrap();
    node.on("level", async |_: Caller, (x,): (u32,)| Ok(x));
    let registry = Registry::new();
    node.register_metrics(&registry).unwrap();
    assert!(node.register_metrics(&registry).is_err(), "one node to a registry");
    for x in 0..3 {
        within(node.call::<u32>(Random, "matchsvr", "level", (x,))).await.unwrap();
    }
    within(node.call::<u32>(Random, "matchsvr", "a\"b\n", ())).await.unwrap_err();
    node.forward_raw(Random, 77, b"bytes").unwrap();

    let page = page(&registry);
    let level = r#"{class="matchsvr",direction="called",method="level""#;
    let latency = "switchboard_node_latency_seconds";
    for line in [
        format!("switchboard_node_calls_total{level},outcome=\"ok\"}} 3\n"),
        r#"switchboard_node_calls_total{class="matchsvr",direction="served",method="level",outcome="ok"} 3"#
            .to_owned(),
        r#"{class="matchsvr",direction="called",method="a\"b\n",outcome="refused"} 1"#.to_owned(),
        r#"{class="matchsvr",direction="served",method="other",outcome="refused"} 1"#.to_owned(),
        r#"switchboard_node_messages_total{class="77",direction="called",method="",outcome="ok"} 1"#
            .to_owned(),
        format!("# TYPE {latency} histogram\n"),
        format!("{latency}_bucket{level},le=\"67.108864\"}} 3\n"),
        format!("{latency}_bucket{level},le=\"+Inf\"}} 3\n"),
        format!("{latency}_count{level}}} 3\n"),
        format!("switchboard_node_retries_total{level}}} 0\n"),
        format!("switchboard_node_in_flight{level}}} 0\n"),
        "switchboard_node_routers 1\n".to_owned(),
        "switchboard_node_handler_queue 0\n".to_owned(),
    ] {
        assert!(page.contains(&line), "no {line} in\n{page}");
    }
    let sum = format!("{latency}_sum{level}}} ");
    let (_, sum) = page.split_once(&sum).unwrap();
    let seconds: f64 = sum.lines().next().unwrap().parse().unwrap();
    assert_eq!(seconds, node.stats().called(5, "level").unwrap().latency.total().as_secs_f64());
}

#[tokio::test]
async fn metrics_do_not_keep_a_node() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let registry = Registry::new();
    node.register_metrics(&registry).unwrap();
    assert!(page(&registry).contains("switchboard_node_routers 1\n"));
    drop(node);
    session.ended().await;
    drop(session);
    within(async {
        while !page(&registry).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
