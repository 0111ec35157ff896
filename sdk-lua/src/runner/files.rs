//! What `import` and the reload need of the file system. Paths are bytes, as on the command line, and keep
//! the form in which the user would write them; only who is the same file is decided by the real path.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mlua::{IntoLuaMulti, Lua, LuaString, Table, Value};

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table) -> mlua::Result<()> {
    // (name, directory of who imports, directory of the script): to the real path and the path, or nil and
    // where it was looked for.
    let find = |lua: &Lua, (name, near, entry): (LuaString, LuaString, LuaString)| match find(
        path(&name.as_bytes()),
        &[path(&near.as_bytes()), path(&entry.as_bytes())],
    ) {
        Ok((real, path)) => (text(lua, &real)?, text(lua, &path)?).into_lua_multi(lua),
        Err(tried) => (Value::Nil, tried).into_lua_multi(lua),
    };
    natives.raw_set("find", lua.create_function(find)?)?;
    // (path) to the directory it lies in.
    let dir = |lua: &Lua, file: LuaString| {
        text(lua, path(&file.as_bytes()).parent().unwrap_or(Path::new("")))
    };
    natives.raw_set("dir", lua.create_function(dir)?)?;
    // (path) to the text and its stamp, or nil and why not.
    let read = |lua: &Lua, file: LuaString| match read(path(&file.as_bytes())) {
        Ok((text, stamp)) => (lua.create_string(text)?, stamp).into_lua_multi(lua),
        Err(error) => (Value::Nil, error.to_string()).into_lua_multi(lua),
    };
    natives.raw_set("read", lua.create_function(read)?)?;
    // (path) to its stamp; nil if there is no such file.
    let stamped = |_: &Lua, file: LuaString| {
        Ok(fs::metadata(path(&file.as_bytes())).ok().map(|metadata| stamp(&metadata)))
    };
    natives.raw_set("stamp", lua.create_function(stamped)?)
}

/// The real path of a file, and the path under which it was found.
pub(super) fn find(name: &Path, dirs: &[&Path]) -> Result<(PathBuf, PathBuf), String> {
    let mut tried: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        let path = dir.join(name);
        if tried.contains(&path) {
            continue;
        }
        match fs::canonicalize(&path) {
            Ok(real) if real.is_file() => return Ok((real, path)),
            _ => tried.push(path),
        }
    }
    let tried: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
    Err(format!("there is no {}", tried.join(" and no ")))
}

/// The whole text of one version of a file, and that version's stamp. Who replaces a file by a rename is
/// never read by halves; of who writes over it, only what is at rest is taken.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, String)> {
    let mut file = File::open(path)?;
    let before = stamp(&file.metadata()?);
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let after = file.metadata()?;
    if stamp(&after) != before || after.len() != text.len() as u64 {
        return Err(io::Error::other("it is being written"));
    }
    // The mark of UTF-8, which some editors write.
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
    // A line for the shell, `#!/usr/bin/env lua-node`, becomes a comment of the same line.
    if text.starts_with(b"#") {
        text.splice(..0, *b"--");
    }
    Ok((text, before))
}

/// What tells one version of a file from another.
fn stamp(metadata: &Metadata) -> String {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    format!("{seconds}.{nanos:09} {} {}:{}", metadata.len(), metadata.dev(), metadata.ino())
}

/// The directory of a file.
fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn text(lua: &Lua, path: &Path) -> mlua::Result<LuaString> {
    lua.create_string(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes away.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("switchboard-lua-{}-{name}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_replaces_another_has_another_stamp_even_of_the_same_size_and_time() {
        let scratch = Scratch::new("stamp");
        let (old, new) = (scratch.write("a.lua", "x = 1"), scratch.write("b.lua", "x = 2"));
        let time = fs::metadata(&old).unwrap().modified().unwrap();
        File::options().write(true).open(&new).unwrap().set_modified(time).unwrap();
        let (_, before) = read(&old).unwrap();
        assert_eq!(read(&old).unwrap(), (b"x = 1".to_vec(), before.clone()));
        fs::rename(new, &old).unwrap();
        let (text, after) = read(&old).unwrap();
        assert_eq!(text, b"x = 2");
        assert_ne!(after, before);
    }

    #[test]
    fn a_line_for_the_shell_is_a_comment_and_keeps_the_lines_in_their_places() {
        let scratch = Scratch::new("shell");
        let (text, _) = read(&scratch.write("a.lua", "#!/usr/bin/env lua-node\nx = 1")).unwrap();
        assert_eq!(text, b"--#!/usr/bin/env lua-node\nx = 1");
    }

    #[test]
    fn a_file_is_looked_for_near_who_asks_and_then_beside_the_script() {
        let scratch = Scratch::new("find");
        let beside = scratch.write("b.lua", "");
        let near = scratch.0.join("near");
        fs::create_dir_all(near.join("dir.lua")).unwrap();
        let find = |name: &str| find(Path::new(name), &[&near, &scratch.0]);
        assert_eq!(find("b.lua").unwrap().1, beside);
        let missing = find("dir.lua").unwrap_err();
        let (near, beside) = (near.join("dir.lua"), scratch.0.join("dir.lua"));
        let expected = format!("there is no {} and no {}", near.display(), beside.display());
        assert_eq!(missing, expected, "a directory is no file");
    }
}
