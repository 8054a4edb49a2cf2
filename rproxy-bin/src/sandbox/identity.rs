//! The user that the process becomes after a start as root.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::values::sandbox::UserName;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name from the setting.
    pub(crate) name: String,
    uid: u32,
    gid: u32,
    /// The supplementary groups.
    groups: Vec<u32>,
}

/// The error for a user that this machine does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// The file of users has no such user.
    #[error("/etc/passwd has no user {0:?}; a number with a group is accepted too, such as 65534:65534")]
    UnknownUser(String),
    /// The number has no entry in the file of users, and no group is given.
    #[error("/etc/passwd has no user {0}, so a group is required: {0}:GROUP")]
    NoGroup(u32),
    /// The file of groups has no such group.
    #[error("/etc/group has no group {0:?}; a number is accepted too")]
    UnknownGroup(String),
    /// The user is another name for root.
    #[error("the user {0:?} has the number 0, which keeps all privileges")]
    Root(String),
}

impl Identity {
    /// Finds the user in the files of this machine.
    pub(crate) fn find(name: &UserName) -> Result<Self, UserError> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::find_in(name, &read("/etc/passwd"), &read("/etc/group"))
    }

    /// Finds the user in the text of passwd(5) and group(5).
    fn find_in(name: &UserName, passwd: &str, group: &str) -> Result<Self, UserError> {
        let rows = |text| lines(text).filter(|fields: &Vec<&str>| fields.len() >= 4);
        let number = name.user().parse::<u32>().ok();
        let id = |fields: &[&str], index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
        let entry = rows(passwd).find(|fields| match number {
            Some(number) => id(fields, 2) == Some(number),
            None => fields[0] == name.user(),
        });
        let entry = entry.and_then(|fields| Some((fields[0], id(&fields, 2)?, id(&fields, 3)?)));
        let (user, uid, primary) = match (entry, number) {
            (Some((user, uid, gid)), _) => (user, uid, Some(gid)),
            (None, Some(number)) => ("", number, None),
            (None, None) => return Err(UserError::UnknownUser(name.user().to_owned())),
        };
        if uid == 0 {
            return Err(UserError::Root(name.user().to_owned()));
        }
        let gid = match (name.group(), primary) {
            (Some(text), _) => match text.parse() {
                Ok(number) => number,
                Err(_) => rows(group)
                    .find(|fields| fields[0] == text)
                    .and_then(|fields| id(&fields, 2))
                    .ok_or_else(|| UserError::UnknownGroup(text.to_owned()))?,
            },
            (None, Some(gid)) => gid,
            (None, None) => return Err(UserError::NoGroup(uid)),
        };
        let is_member = |fields: &Vec<&str>| !user.is_empty() && fields[3].split(',').any(|member| member == user);
        let mut groups: Vec<u32> = rows(group).filter(is_member).filter_map(|fields| id(&fields, 2)).collect();
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { name: name.to_string(), uid, gid, groups })
    }

    /// Changes the user of this thread, which must be the only one, and gives up all privileges for good.
    ///
    /// Does nothing if the process runs as this user already.
    pub(crate) fn assume(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        if geteuid() == uid {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        // A process with the capability CAP_SETUID could become root again.
        match set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
            Ok(()) => Err(io::Error::other("the process can become root again")),
            Err(_) => Ok(()),
        }
    }

    /// Returns the number of the user.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the number of the group.
    pub(crate) fn gid(&self) -> u32 {
        self.gid
    }

    /// Returns whether the permissions of a folder allow this user to create files in it.
    pub(crate) fn can_write(&self, folder: &Metadata) -> bool {
        let shift = match folder {
            _ if folder.uid() == self.uid => 6,
            _ if self.groups.contains(&folder.gid()) => 3,
            _ => 0,
        };
        (folder.mode() >> shift) & 0o3 == 0o3
    }
}

/// Returns the fields of each line, separated by colons.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nwww-data:x:33:33::/var/www:\n+::::::\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nssl-cert:x:101:alice,www-data\nadm:x:4:www-dat\n";

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        let identity = Identity::find_in(&text.parse().unwrap(), PASSWD, GROUP)?;
        Ok((identity.uid, identity.gid, identity.groups))
    }

    #[test]
    fn finds_user_group_and_supplementary_groups() {
        assert_eq!(find("www-data"), Ok((33, 33, vec![33, 101])));
        assert_eq!(find("33"), Ok((33, 33, vec![33, 101])));
        assert_eq!(find("www-data:adm"), Ok((33, 4, vec![4, 101])));
        assert_eq!(find("65532:65532"), Ok((65532, 65532, vec![65532])));
        assert_eq!(find("nobody"), Err(UserError::UnknownUser("nobody".to_owned())));
        assert_eq!(find("65532"), Err(UserError::NoGroup(65532)));
        assert_eq!(find("www-data:none"), Err(UserError::UnknownGroup("none".to_owned())));
        assert_eq!(find("toor"), Err(UserError::Root("toor".to_owned())));
    }
}
