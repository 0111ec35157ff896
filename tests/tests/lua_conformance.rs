//! The module in every Lua: lua-node, Lua 5.4 and LuaJIT run the same scripts, exchange every value with a node
//! in Rust, and may end as they like. The scripts are in `sdk-lua/tests/conformance/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rmpv::Value;
use switchboard::{Direct, Encoded, HandlerError, Node};
use switchboard_tests::lua_host::Running;
use switchboard_tests::{LuaHost, RouterBuilder, RouterProcess, eventually};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// What each Lua runs to its end, beside a router and a node in Rust.
const SCRIPTS: [&str; 11] = [
    "bounds",
    "calling",
    "connecting",
    "handling",
    "leaving",
    "logging",
    "membership",
    "sending",
    "surface",
    "time",
    "values",
];

/// What the others are for, which tests here start themselves.
const PARTS: [&str; 4] = ["check", "echo", "last", "lost"];

fn sdk() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("a package has a parent").join("sdk-lua")
}

fn conformance() -> PathBuf {
    sdk().join("tests/conformance")
}

fn annotations() -> PathBuf {
    sdk().join("lua/switchboard.d.lua")
}

fn script(name: &str) -> PathBuf {
    conformance().join(name).with_extension("lua")
}

fn router() -> RouterProcess {
    RouterProcess::with(
        "classes:\n  gamesvr: { id: 1, hash: rendezvous }\n  matchsvr: { id: 5, hash: rendezvous }\n  \
         dbagent: { id: 6, hash: fixed, slots: 4 }\n  mailsvr: { id: 7 }\n  echosvr: { id: 9 }\n",
    )
}

fn start(host: LuaHost, name: &str, router: &RouterProcess, more: &[(&str, &str)]) -> Running {
    let annotations = annotations();
    let annotations = annotations.to_str().expect("a path in UTF-8");
    let mut variables = vec![("ROUTER", router.listen()), ("SWITCHBOARD_LOG", "trace")];
    variables.push(("ANNOTATIONS", annotations));
    variables.extend(more);
    host.start(&script(name), &variables)
}

#[track_caller]
fn ends_well(running: &mut Running, what: &str) {
    let status = running.wait_exit();
    assert!(status.success(), "{what}: {status}");
    assert!(running.out().lines().any(|line| line.starts_with("ok ")), "{what}: it says ok");
}

/// The payload's values, which are those of an array.
fn values(mut payload: &[u8]) -> Vec<Value> {
    match rmpv::decode::read_value(&mut payload).expect("MessagePack") {
        Value::Array(values) => values,
        other => panic!("an array, not {other}"),
    }
}

fn encoded(values: &[Value]) -> Encoded<Vec<u8>> {
    let mut bytes = Vec::new();
    for value in values {
        rmpv::encode::write_value(&mut bytes, value).expect("memory takes everything");
    }
    Encoded { count: values.len(), bytes }
}

/// The node in Rust: `echo` answers with its arguments, read and written anew, `kinds` with what they are, and
/// the first argument of every other message is told.
fn echo_service(
    runtime: &Runtime,
    router: &RouterProcess,
) -> (Node, mpsc::UnboundedReceiver<Value>) {
    let (told, hears) = mpsc::unbounded_channel();
    let connect = Node::builder("echosvr.1").router(router.listen()).connect_with_deliveries();
    let (node, mut deliveries) = runtime.block_on(connect).expect("the router is there");
    runtime.spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            let args = values(delivery.payload()).split_off(1);
            let answer = match delivery.method() {
                Some("echo") => Ok(encoded(&args)),
                Some("kinds") => Ok(encoded(&[Value::from(kinds(&args))])),
                Some("note") => {
                    // The test may be over.
                    let _ = told.send(args[0].clone());
                    Ok(encoded(&[]))
                }
                other => Err(HandlerError::new("error", format!("{other:?}"))),
            };
            delivery.answer(answer);
        }
    });
    (node, hears)
}

fn kinds(args: &[Value]) -> String {
    let kind = |value: &Value| match value {
        Value::Nil => "nil".to_owned(),
        Value::Boolean(_) => "bool".to_owned(),
        Value::Integer(integer) => format!("int:{integer}"),
        Value::F32(float) => format!("f32:{float}"),
        Value::F64(float) => format!("f64:{float}"),
        Value::String(text) => format!("str:{}", text.as_bytes().len()),
        Value::Binary(bytes) => format!("bin:{}", bytes.len()),
        Value::Array(elements) => format!("array:{}", elements.len()),
        Value::Map(entries) => format!("map:{}", entries.len()),
        Value::Ext(kind, _) => format!("ext:{kind}"),
    };
    match args {
        [] => "nothing".to_owned(),
        args => args.iter().map(kind).collect::<Vec<_>>().join(" "),
    }
}

/// Runs every script, and looks for what each says that its log holds: pieces of a text in their order.
#[track_caller]
fn passes_the_scripts(host: LuaHost) {
    let runtime = Runtime::new().expect("a runtime");
    for name in SCRIPTS {
        let router = router();
        let (_echo, _) = echo_service(&runtime, &router);
        let mut running = start(host, name, &router, &[]);
        ends_well(&mut running, name);
        let text = std::fs::read_to_string(script(name)).expect("the script is readable");
        let log = running.log();
        for wanted in text.lines().filter_map(|line| line.strip_prefix("--! log: ")) {
            let mut rest = log.as_str();
            for piece in wanted.split(" ... ") {
                let found = rest.split_once(piece);
                let missing = || panic!("{name}: the log lacks `{piece}` of `{wanted}`:\n{log}");
                rest = found.unwrap_or_else(missing).1;
            }
        }
    }
}

#[test]
fn lua_node_passes_the_scripts() {
    passes_the_scripts(LuaHost::Node);
}

#[test]
fn lua_5_4_with_the_module_passes_the_scripts() {
    passes_the_scripts(LuaHost::Lua54);
}

#[test]
fn luajit_with_the_module_passes_the_scripts() {
    passes_the_scripts(LuaHost::LuaJit);
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<_> = std::fs::read_dir(conformance())
        .expect("the directory is there")
        .map(|entry| entry.expect("an entry").path().with_extension(""))
        .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
        .collect();
    found.sort();
    let mut known = [SCRIPTS.as_slice(), &PARTS].concat();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn every_hook_is_annotated_and_every_annotated_hook_is_there() {
    let names = |path: PathBuf, before: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(path).expect("a text file");
        let found = text.split(before).skip(1).filter_map(|rest| {
            let rest = rest.strip_prefix("on_")?;
            let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        });
        found.collect()
    };
    let hooks = names(sdk().join("src/bind/events.rs"), "(\"");
    assert!(hooks.contains("promoted"), "{hooks:?}");
    assert_eq!(hooks, names(annotations(), "---@field "));
}

#[test]
fn a_link_that_is_lost_is_told_and_comes_back() {
    for host in LuaHost::ALL {
        let first = router();
        let address = first.listen().to_owned();
        let mut running = start(host, "lost", &first, &[]);
        running.expect_out("connected");
        drop(first);
        running.expect_out("lost");
        let config = "classes: {matchsvr: {id: 5}}\n";
        let _second = RouterBuilder::default().config(config).listen(address).start();
        ends_well(&mut running, "lost");
    }
}

// ---- values --------------------------------------------------------------------------------------

/// Values as Rust sends them; what Lua can't have is left out.
fn value() -> impl Strategy<Value = Value> {
    let whole = prop_oneof![
        any::<i64>(),
        -200_i64..200,
        prop::sample::select(vec![
            i64::MIN,
            i64::MAX,
            1 << 53,
            (1 << 53) + 1,
            -(1 << 53) - 1,
            1 << 32
        ]),
    ];
    let float = prop_oneof![
        any::<f64>(),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            1.0,
            9e15,
            1e300
        ]),
    ];
    let text = prop_oneof![any::<String>(), "[a-z]{30,300}"];
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let key = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-3_i64..9).prop_map(Value::from),
        text.clone().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        (-1e3..1e3).prop_map(Value::F64),
        Just(Value::F64(2.0)),
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Nil),
        1 => any::<bool>().prop_map(Value::from),
        3 => whole.prop_map(Value::from),
        2 => float.prop_map(Value::F64),
        1 => any::<f32>().prop_map(Value::F32),
        2 => text.prop_map(Value::from),
        2 => bytes.prop_map(Value::Binary),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(Value::Map),
        ]
    })
}

/// What a value is after it was in a Lua: the model that the test compares with.
fn through(host: LuaHost, value: &Value) -> Value {
    match value {
        Value::F32(float) => number(host, f64::from(*float)),
        Value::F64(float) => number(host, *float),
        Value::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => value.clone(),
        },
        Value::Array(elements) => {
            let entries = elements.iter().enumerate();
            table(entries.map(|(i, v)| (Value::from(i + 1), through(host, v))))
        }
        Value::Map(entries) => {
            table(entries.iter().map(|(k, v)| (key(through(host, k)), through(host, v))))
        }
        other => other.clone(),
    }
}

/// LuaJIT's numbers are floats, and one that is whole travels as an integer up to 2^53.
fn number(host: LuaHost, float: f64) -> Value {
    let is_negative_zero = float == 0.0 && float.is_sign_negative();
    match whole(float) {
        Some(integer)
            if host == LuaHost::LuaJit
                && integer.unsigned_abs() <= 1 << 53
                && !is_negative_zero =>
        {
            Value::from(integer)
        }
        _ => Value::F64(float),
    }
}

/// A float that is a whole number is the same key as that.
fn key(key: Value) -> Value {
    match key {
        Value::F64(float) => whole(float).map_or(Value::F64(float), Value::from),
        other => other,
    }
}

fn whole(float: f64) -> Option<i64> {
    let fits = float.fract() == 0.0 && (-(2_f64.powi(63))..2_f64.powi(63)).contains(&float);
    fits.then_some(float as i64)
}

/// A table has one value for each key, and none that is nil. It travels as an array if its keys are 1..n with
/// at most as many holes as elements.
fn table(set: impl Iterator<Item = (Value, Value)>) -> Value {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    for (key, value) in set {
        entries.retain(|(known, _)| *known != key);
        if !value.is_nil() {
            entries.push((key, value));
        }
    }
    let index = |key: &Value| key.as_u64().filter(|index| *index >= 1);
    let length = entries.iter().map(|(key, _)| index(key)).try_fold(0, |n, i| i.map(|i| n.max(i)));
    match length {
        Some(length) if length <= 2 * entries.len() as u64 => {
            let mut elements = vec![Value::Nil; length as usize];
            for (key, value) in entries {
                let place = index(&key).expect("all are indices");
                elements[place as usize - 1] = value;
            }
            Value::Array(elements)
        }
        _ => Value::Map(entries),
    }
}

/// Entries in one order, and every not-a-number the same.
fn comparable(value: &Value) -> Value {
    match value {
        Value::F64(float) if float.is_nan() => Value::from("not a number"),
        Value::F64(float) => Value::from(format!("float {:x}", float.to_bits())),
        Value::Array(elements) => Value::Array(elements.iter().map(comparable).collect()),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(k, v)| (comparable(k), comparable(v)));
            let mut entries: Vec<_> = entries.collect();
            entries.sort_by_cached_key(|(key, _)| format!("{key:?}"));
            Value::Map(entries)
        }
        other => other.clone(),
    }
}

#[test]
fn every_value_goes_from_rust_to_lua_and_back() {
    let runtime = Runtime::new().expect("a runtime");
    for host in LuaHost::ALL {
        let router = router();
        let mut running = start(host, "echo", &router, &[("SWITCHBOARD_LOG", "warn")]);
        running.expect_out("ready");
        let node = runtime
            .block_on(Node::builder("gamesvr.1").router(router.listen()).connect())
            .expect("the router is there");
        let call = |method: &str, args: &[Value]| {
            let call = node.call::<()>(Direct, "matchsvr.1", method, encoded(args)).raw();
            runtime.block_on(call.into_future())
        };
        let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
        let ran = TestRunner::new(config).run(&prop::collection::vec(value(), 0..6), |args| {
            let payload =
                call("echo", &args).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let wanted: Vec<_> = args.iter().map(|arg| comparable(&through(host, arg))).collect();
            let got: Vec<_> = values(&payload).iter().map(comparable).collect();
            prop_assert_eq!(got, wanted);
            Ok(())
        });
        ran.unwrap_or_else(|failed| panic!("{host:?}: {failed}"));

        // What Lua can't have is refused, or at least answered, and the script lives.
        let over = call("echo", &[Value::from(u64::MAX)]).unwrap_err().to_string();
        assert!(over.contains("over the largest integer of Lua"), "{host:?}: {over}");
        let extension = call("echo", &[Value::Ext(1, vec![0])]).unwrap_err().to_string();
        assert!(extension.contains("Lua has no value for an extension"), "{host:?}: {extension}");
        let many = call("echo", &vec![Value::from(1); 1_100_000]).unwrap_err().to_string();
        assert!(many.contains("1100000 arguments, and 5000 may be"), "{host:?}: {many}");
        assert_eq!(call("echo", &[Value::from(1)]).expect("an answer"), [0x91, 1][..], "{host:?}");
        call("leave", &[]).expect("it leaves");
        ends_well(&mut running, "echo");
    }
}

#[test]
fn a_count_that_is_only_announced_takes_no_memory() {
    let runtime = Runtime::new().expect("a runtime");
    let router = router();
    let mut running = start(LuaHost::Node, "echo", &router, &[]);
    running.expect_out("ready");
    let node = runtime
        .block_on(Node::builder("gamesvr.1").router(router.listen()).connect())
        .expect("the router is there");
    let call = |args: Encoded<Vec<u8>>| {
        let call = node.call::<()>(Direct, "matchsvr.1", "echo", args).raw();
        runtime.block_on(call.into_future())
    };
    let announced = Encoded { count: u32::MAX as usize - 1, bytes: vec![1] };
    let error = call(announced).unwrap_err().to_string();
    assert!(error.contains("4294967294 arguments, and 5000 may be: pass a table"), "{error}");
    let cut = Encoded { count: 5000, bytes: vec![1] };
    let error = call(cut).unwrap_err().to_string();
    assert!(error.contains("argument 2: the payload ends in the middle of a value"), "{error}");
    assert_eq!(call(Encoded { count: 1, bytes: vec![1] }).expect("an answer"), [0x91, 1][..]);
    let leave = node.call::<()>(Direct, "matchsvr.1", "leave", ());
    runtime.block_on(leave.into_future()).expect("it leaves");
    ends_well(&mut running, "echo");
}

// ---- the end -------------------------------------------------------------------------------------

/// How a script of a stock Lua ends, and its exit code.
const ENDS: [(&str, i32); 7] = [
    ("", 0),
    ("error", 1),
    ("closing", 0),
    ("not closing", 0),
    ("in a handler", 0),
    ("in a handler that waited", 0),
    ("in a coroutine", 0),
];

#[test]
fn a_script_may_end_as_it_likes_and_what_it_sent_arrives() {
    let runtime = Runtime::new().expect("a runtime");
    for host in [LuaHost::Lua54, LuaHost::LuaJit] {
        let router = router();
        let (_echo, mut hears) = echo_service(&runtime, &router);
        for round in 0..200 {
            let (how, code) = ENDS[round % ENDS.len()];
            let mut running =
                start(host, "last", &router, &[("HOW", how), ("SWITCHBOARD_LOG", "error")]);
            let status = running.wait_exit();
            assert_eq!(status.code(), Some(code), "{host:?}, {how}, round {round}: {status}");
            // Where the state is not closed nobody waits for what was sent.
            if how == "not closing" {
                continue;
            }
            let mut last = 0;
            eventually("what was sent", || {
                while let Ok(number) = hears.try_recv() {
                    last = number.as_u64().expect("a number");
                }
                last == 100
            });
        }
    }
}

#[test]
fn an_interrupt_ends_a_script_that_waits() {
    let router = router();
    for (host, code) in [(LuaHost::Node, 0), (LuaHost::Lua54, 1), (LuaHost::LuaJit, 1)] {
        let mut running = start(host, "echo", &router, &[]);
        running.expect_out("ready");
        running.signal("INT");
        let status = running.wait_exit();
        assert_eq!(status.code(), Some(code), "{host:?}: {status}");
        let said = running.log().contains("interrupted!");
        assert_eq!(said, host != LuaHost::Node, "{host:?}");
    }
}

#[test]
fn the_log_goes_to_standard_error_as_a_variable_says() {
    let router = router();
    let log = |level: &str| {
        let mut running = start(LuaHost::Lua54, "logging", &router, &[("SWITCHBOARD_LOG", level)]);
        let status = running.wait_exit();
        (status.code(), running.log())
    };
    let (code, text) = log("warn");
    assert_eq!(code, Some(0));
    assert!(text.contains("a warning") && !text.contains("some information"), "{text}");
    let (code, text) = log("script=loud");
    assert_eq!(code, Some(1));
    assert!(text.contains("SWITCHBOARD_LOG: `script=loud`: "), "{text}");
    let (code, text) = log("off");
    assert_eq!((code, text.as_str()), (Some(0), ""));
}
