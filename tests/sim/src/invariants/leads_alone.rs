use esta_proto::LeaderEpoch;

use super::Violation;

/// MB-1: a leader stops serving before its lease can have ended, so nobody else leads while it says anything. That holds
/// as long as its clock is `sound`: against one that runs slow there is only the fence.
pub fn leads_alone(sound: bool, speaks: LeaderEpoch, newest: LeaderEpoch) -> Result<(), Violation> {
    if sound && speaks != newest {
        let what = format!("the leader of epoch {speaks} speaks while that of epoch {newest} leads");
        return Err(Violation::new("MB-1", what));
    }
    Ok(())
}
