//! Times and sizes as they are typed on the command line: `3s`, `256MiB`.

use std::time::Duration;

/// A time such as `10ms`, `3s` or `1m`; 0 is none.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: write 3s, 500ms or 1m, or 0 for never");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let millis = match unit {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// A size such as `256MiB`, in bytes, for Lua to live in.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a size: write 256MiB, 1GiB or a number of bytes");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| usize::try_from(bytes).ok());
    match bytes.ok_or_else(wrong)? {
        bytes if bytes < LEAST_MEMORY => Err(format!("{text} is too little for Lua: 1MiB or more")),
        bytes => Ok(bytes),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

const LEAST_MEMORY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_unless_they_are_none() {
        assert_eq!(time("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(time("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        for wrong in
            ["", "3", "s", "-1s", "1.5s", "3 s", "99999999999999999999s", "18446744073709551615m"]
        {
            assert!(time(wrong).is_err_and(|why| why.contains("is not a time")), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary_and_leave_room_for_lua() {
        assert_eq!(memory("256MiB"), Ok(256 << 20));
        assert_eq!(memory("1GiB"), Ok(1 << 30));
        assert_eq!(memory("2048KiB"), Ok(2 << 20));
        assert_eq!(memory("1048576"), Ok(1 << 20));
        for wrong in ["", "MiB", "256MB", "-1", "99999999999GiB"] {
            assert!(memory(wrong).is_err_and(|why| why.contains("is not a size")), "{wrong}");
        }
        assert!(memory("1000KiB").is_err_and(|why| why.contains("1MiB or more")));
    }
}
