//! docs/openapi.yaml against a running router: schemathesis makes up requests, right ones and wrong ones, and
//! holds each answer against the description.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use switchboard_tests::http::{Request, Response};
use switchboard_tests::scratch::Scratch;
use switchboard_tests::{RawNode, RouterProcess, python};

fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    PYTHON.get_or_init(|| python::with(&["schemathesis==4.32.5"], dir))
}

const TOKEN: &str = "correct-horse-battery-staple";

/// A router with something to tell, and the nodes that it tells of.
struct Scene {
    router: RouterProcess,
    _nodes: Vec<RawNode>,
    scratch: Scratch,
}

impl Scene {
    fn set() -> Self {
        let scratch = Scratch::new();
        let token = scratch.write("token", TOKEN);
        let router = RouterProcess::with(&format!(
            "admin_token: 'file:{}'\nrouters: ['10.0.0.2:2000']\ndrain: {{timeout_ms: 600000}}\n\
             classes: {{matchsvr: {{id: 5, master: sticky, http_calls: true}}, dbagent: {{id: 6, slots: 4}}, \
             mailsvr: {{id: 7, hash: rendezvous}}, gate: {{id: 8, hash: modulo, park_ms: 1000}}}}\n",
            token.display()
        ));
        let ids: [&[&str]; 4] = [&["5.1", "6.1"], &["5.2", "7.1"], &["6.3", "8.1"], &["99.5"]];
        let nodes = ids.iter().map(|ids| router.join(ids)).collect();
        Self { router, _nodes: nodes, scratch }
    }

    fn get(&self, path: &str) -> Response {
        self.router.ask(&self.shown(Request::get(path)))
    }

    fn shown(&self, request: Request) -> Request {
        request.header("authorization", &format!("Bearer {TOKEN}"))
    }

    /// Runs schemathesis against it.
    fn check(&self, examples: &str, which: &[&str]) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(interpreter())
            .args(["-c", "from schemathesis.cli import schemathesis; schemathesis()"])
            .arg("--config-file")
            .arg(root.join("schemathesis.toml"))
            .arg("run")
            .arg(root.join("../docs/openapi.yaml"))
            .args(["--url", &format!("http://{}", self.router.admin())])
            .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
            .args(["--max-examples", examples, "--seed", "1", "--warnings", "off"])
            .args(which)
            // It keeps notes in the directory where it runs.
            .current_dir(self.scratch.path())
            .output()
            .expect("schemathesis runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("generated"), "it has checked something: {said}");
    }
}

#[test]
fn every_answer_is_as_described_and_every_wrong_request_is_refused() {
    let scene = Scene::set();
    // A stream has no end, and the router ends after a drain: those come by themselves.
    let others = ["--exclude-path", "/api/v1/stream", "--exclude-path", "/api/v1/drain"];
    scene.check("20", &others);
    assert_eq!(scene.router.http("GET", "/readyz").status, 200);
    scene.check("5", &["--include-path", "/api/v1/drain"]);
    assert_eq!(scene.router.http("GET", "/readyz").status, 503);
}

#[test]
fn what_is_told_of_a_router_at_work_is_as_described() {
    let scene = Scene::set();
    let mut events = scene
        .shown(Request::get("/api/v1/stream"))
        .listen(scene.router.admin())
        .expect("it is a stream");
    let second = [events.next_json(), events.next_json()][1].to_string();
    for (schema, told) in [
        ("Summary", second),
        ("ClassPage", scene.get("/api/v1/classes/matchsvr").body),
        ("ClassPage", scene.get("/api/v1/classes/mailsvr").body),
        ("Session", scene.get("/api/v1/sessions/1").body),
        ("Routers", scene.get("/api/v1/routers").body),
        ("Problem", scene.get("/nosuch").body),
    ] {
        validate(schema, &told);
    }
    let events = scene.get("/api/v1/events").json();
    let events = events["events"].as_array().expect("a list");
    assert!(events.len() >= 7);
    events.iter().for_each(|event| validate("Event", &event.to_string()));
}

/// Holds a JSON text against a schema of the description. Schemathesis does so too, but passes over fields
/// that the description does not have.
#[track_caller]
fn validate(schema: &str, told: &str) {
    const SCRIPT: &str = "import json, jsonschema_rs, sys, yaml\n\
        document = yaml.safe_load(open(sys.argv[1]))\n\
        schema = {'$ref': '#/components/schemas/' + sys.argv[2], 'components': document['components']}\n\
        jsonschema_rs.Draft202012Validator(schema).validate(json.load(sys.stdin))\n";
    let description = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.yaml");
    let mut child = Command::new(interpreter())
        .args(["-c", SCRIPT])
        .arg(description)
        .arg(schema)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python runs");
    child.stdin.take().expect("a pipe").write_all(told.as_bytes()).expect("it is read");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_description_that_is_served_is_the_one_that_is_kept() {
    let router = RouterProcess::start();
    let served = router.http("GET", "/api/v1/openapi.yaml");
    assert_eq!((served.status, served.header("content-type")), (200, Some("application/yaml")));
    assert_eq!(served.body, include_str!("../../docs/openapi.yaml"));
}

#[test]
fn every_path_of_the_description_stands_in_the_prose() {
    let description = include_str!("../../docs/openapi.yaml").lines();
    let paths = description.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
    let paths: Vec<&str> = paths.filter(|path| path.starts_with('/')).collect();
    assert!(paths.len() > 10, "{paths:?}");
    let prose = include_str!("../../docs/admin.md");
    for path in paths {
        assert!(prose.contains(&format!("`{path}`")), "{path}");
    }
}
