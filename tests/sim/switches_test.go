package sim

import "testing"

// wanted are the switches that must lead to two masters, or two logs. Others are
// found by smaller searches: docs/reliability.md.
func wanted() []Switch {
	out := []Switch{
		AckWithGateOpen, ForgetsItsAck, AckUnsynced, TwoAnswers, LeaveIsNotFinal, LeavesServing, NonceNotAsked, NonceIsStale,
		OneAnswerIsEnough, ServesUnlisted, RolledBack, LeaseIgnored, LeaseByBootClock, LeaseByWallClock, LeaseOverstayed, LeaseOfOne,
		VotesForgotten, VotesUnsynced, LostDiskVotes, BackupVotes, RosterUnchecked, AdmitsWhileOpen, SilenceRemoves, SnapshotForgets,
		NoPromise, LapseNotWaited, StartNotWaited, FenceCutsNothing, AttestsTheLiving, OneLiarTooMany, ClocksRunApart,
		OldVotersGrantOn, AnswersOfAnyEpoch, NewVotersDoNotWait, NewVotersForgetPromises, OldVotersDecideOn, OldKeyBelieved,
	}
	return append(out, "agreement: FullQuorum", "agreement: TimeoutTellsLock")
}

// begins are, of the switches that show seldom, seeds shortly before the first one
// with which they do: for the time that it takes.
var begins = map[Switch]uint64{
	RolledBack: 820, BackupVotes: 720, VotesUnsynced: 450, OldVotersGrantOn: 330, OldKeyBelieved: 380, AnswersOfAnyEpoch: 195, LeaseByBootClock: 185,
}

// TestSwitches guards the simulation itself: with a rule switched off, or an
// assumption that does not hold, it finds two masters or two logs.
func TestSwitches(t *testing.T) {
	most := uint64(1000)
	all := wanted()
	if raced {
		all = all[:2]
	}
	for _, off := range all {
		t.Run(string(off), func(t *testing.T) {
			stuck, first := 0, max(begins[off], 1)
			for seed := first; seed < first+most; seed++ {
				s := Run(seed, off, false)
				if s.Unsafe {
					t.Logf("seed %d: %s", seed, s.Problem)
					return
				}
				if s.Problem != "" {
					stuck++
				}
			}
			t.Errorf("not seen in %d histories (%d were not settled)", most, stuck)
		})
	}
}
