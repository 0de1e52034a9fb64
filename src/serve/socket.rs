//! The Unix socket: a second way in for clients on this host, faster than TCP, and guarded by the permissions of a file.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The longest path. The kernel takes one byte more, which the hidden name has.
pub const PATH_BYTES_MAX: usize = 106;
/// Connections that wait in the kernel until they are accepted.
const BACKLOG: i32 = 128;

/// Where the socket is, and who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// The socket's file. Its path has at most [`PATH_BYTES_MAX`].
    pub path: PathBuf,
    /// The permissions of the file. A client needs the one to write.
    pub mode: u32,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another program listens there.
    #[error(
        "listen on unix:{}: another program listens there, perhaps another kymo; stop it or set server.socket to another \
         path", .0.display()
    )]
    Taken(PathBuf),
    /// There is a file of another kind.
    #[error("listen on unix:{}: there is a file that is no socket; set server.socket to another path", .0.display())]
    NoSocket(PathBuf),
    /// The kernel refuses.
    #[error("listen on unix:{}: {step}: {source}", .path.display())]
    Refused {
        /// The socket's file.
        path: PathBuf,
        /// What was refused.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Whether the socket can be made: nobody listens there, and there is no other file.
///
/// # Errors
/// As for [`SocketFile::bind`].
pub(super) fn check(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NoSocket(path.to_owned())),
        // Of a program that ended without deleting it.
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            _ => Err(SocketError::Taken(path.to_owned())),
        },
        Err(_) => Ok(()),
    }
}

/// The file of a socket that listens. It goes with this value.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another program may have put its own file there.
    identity: (u64, u64),
}

impl SocketFile {
    /// Makes the socket. It appears under its name when it has its permissions and listens.
    ///
    /// # Errors
    /// When somebody listens there, there is a file of another kind, or the kernel refuses.
    pub(super) fn bind(settings: &SocketSettings) -> Result<(SocketFile, UnixListener), SocketError> {
        let path = &settings.path;
        check(path)?;
        let refused = |step| move |source| SocketError::Refused { path: path.clone(), step, source };
        let mut hidden = OsString::from(".");
        hidden.push(path.file_name().unwrap_or_default());
        let hidden = path.with_file_name(hidden);
        let address = SockAddr::unix(&hidden).map_err(refused("name it"))?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused("make it"))?;
        if fs::symlink_metadata(&hidden).is_ok_and(|found| found.file_type().is_socket()) {
            // That of a start that was killed. If it stays, the next step says so.
            let _ = fs::remove_file(&hidden);
        }
        socket.bind(&address).map_err(refused("bind it"))?;
        let shown = fs::set_permissions(&hidden, Permissions::from_mode(settings.mode))
            .map_err(refused("set its permissions"))
            .and_then(|()| socket.listen(BACKLOG).map_err(refused("listen")))
            .and_then(|()| fs::symlink_metadata(&hidden).map_err(refused("look at it")))
            .and_then(|made| fs::rename(&hidden, path).map_err(refused("show it")).map(|()| made));
        let made = shown.inspect_err(|_| {
            let _ = fs::remove_file(&hidden);
        })?;
        let listener = UnixListener::from(OwnedFd::from(socket));
        listener.set_nonblocking(true).map_err(refused("listen"))?;
        Ok((SocketFile { path: path.clone(), identity: (made.dev(), made.ino()) }, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours {
            // What stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> SocketSettings {
        SocketSettings { path: path.to_owned(), mode: 0o600 }
    }

    #[test]
    fn a_socket_has_its_permissions_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kymo.sock");
        let (file, listener) = SocketFile::bind(&settings(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let error = SocketFile::bind(&settings(&path)).unwrap_err().to_string();
        assert!(error.contains("another program listens there"), "{error}");
        drop((file, listener));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_program_left_is_replaced_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kymo.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (first, _listener) = SocketFile::bind(&settings(&path)).unwrap();
        // Somebody replaces it: it is not deleted with the first.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "something").unwrap();
        drop(first);
        let error = SocketFile::bind(&settings(&path)).unwrap_err().to_string();
        assert!(error.contains("a file that is no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "something");
    }

    #[test]
    fn a_path_that_cannot_be_is_named() {
        let error = SocketFile::bind(&settings(&Path::new("/tmp").join("x".repeat(120)))).unwrap_err().to_string();
        assert!(error.contains("name it"), "{error}");
        let error = SocketFile::bind(&settings(Path::new("/nonexistent/kymo.sock"))).unwrap_err().to_string();
        assert!(error.contains("unix:/nonexistent/kymo.sock: bind it: No such file"), "{error}");
    }
}
