//! How the library is linked. Called by cargo.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Lua closes its libraries with its state. A thread of this one is joined before that, but what other
    // libraries of the process may hold of it, such as destructors of their threads' locals, is not known.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-cdylib=-Wl,-z,nodelete");
    }
    // Lua's own symbols come from the program that loads the library.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") {
        println!("cargo:rustc-link-arg-cdylib=-Wl,-undefined,dynamic_lookup");
    }
}
