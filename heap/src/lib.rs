//! What the allocator keeps of freed memory goes back to the system. A crate of its own because this takes a call
//! to the C library, and so the only unsafe code of the workspace: what may call it forbids that.

/// Gives back what is free. glibc otherwise keeps what lies below anything that is in use, which after a flood
/// is most of it. Call it when there is little to do: threads that allocate meanwhile wait until it has gone through
/// the list of free pieces that theirs come from. Does nothing where the C library is another one.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: malloc_trim(3) may be called at any time on any thread. It touches no memory that is in use, and its
    // argument is merely how much to keep at the top.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Does nothing here: there is no such call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
