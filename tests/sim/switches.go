package sim

import "github.com/signalbox-io/signalbox/membership/agreement"

// Switch names one rule that is switched off, or one assumption that does not
// hold, to see that the simulation finds what comes of it. Only tests use them.
type Switch string

// None keeps all rules.
const None Switch = ""

// What instances do wrong.
const (
	AckWithGateOpen   Switch = "an instance acks with its gate open"
	ForgetsItsAck     Switch = "an instance serves below what it acked"
	AckUnsynced       Switch = "an ack leaves before the fsync"
	TwoAnswers        Switch = "an instance acks and then refuses a block"
	LeaveIsNotFinal   Switch = "an instance serves after its leave"
	LeavesServing     Switch = "an instance leaves and serves until it exits"
	NonceNotAsked     Switch = "an instance that starts asks no voter"
	NonceIsStale      Switch = "answers to an earlier start count"
	OneAnswerIsEnough Switch = "one voter's answer is enough after a start"
	ServesUnlisted    Switch = "an instance serves a term that does not list it"
	RolledBack        Switch = "an instance keeps its key when its state is rolled back"
	LeaseIgnored      Switch = "an instance serves without a live lease"
	LeaseOverstayed   Switch = "an instance overlooks the end of its lease for one TTL"
	LeaseByBootClock  Switch = "an instance ages its lease by the boot clock alone"
	LeaseByWallClock  Switch = "an instance ages its lease by the wall clock alone"
	LeaseOfOne        Switch = "one voter's grant is a lease"
)

// What voters do wrong.
const (
	VotesForgotten      Switch = "voters forget their votes in a crash"
	VotesUnsynced       Switch = "votes leave before the fsync"
	LostDiskVotes       Switch = "a voter with an empty disk votes at once"
	BackupVotes         Switch = "a voter restored from a backup votes at once"
	RosterUnchecked     Switch = "the roster is of who is seen, and nobody checks it"
	AdmitsWhileOpen     Switch = "admissions are decided while a block is open"
	SilenceRemoves      Switch = "who is silent is removed"
	AnswersLeaveVoteOut Switch = "answers leave out the block that the voter voted for"
	SnapshotForgets     Switch = "a restored snapshot forgets who is outstanding in the master's data center"
	PromiseForgotten    Switch = "a voter forgets its promises in a crash"
	NoPromise           Switch = "a voter waits for the lapse and goes on granting"
	LapseNotWaited      Switch = "a lapse is signed at once"
	StartNotWaited      Switch = "a voter that starts waits for no lease granted before"
)

// What goes wrong when the voters change.
const (
	OldVotersGrantOn        Switch = "a voter votes for other voters and goes on granting leases"
	GrantsOfAnyEpoch        Switch = "an instance counts grants of any epoch together"
	AnswersOfAnyEpoch       Switch = "an instance counts answers of any epoch together"
	NewVotersDoNotWait      Switch = "new voters wait for no lease that the old ones granted"
	NewVotersForgetPromises Switch = "new voters take over no promises from the log"
	OldVotersDecideOn       Switch = "who votes no more goes on deciding with the others who do not"
	OldKeyBelieved          Switch = "a voter believes in a key that is older than its journal"
)

// What others do wrong, and assumptions.
const (
	FenceCutsNothing Switch = "a fence is signed and cuts nothing off"
	AttestsTheLiving Switch = "an operator attests for who runs"
	OneLiarTooMany   Switch = "r + 1 voters lie"
	ClocksRunApart   Switch = "clocks drift beyond the bound"
)

// agreementRules are those of membership/agreement that can be switched off here.
var agreementRules = map[Switch]agreement.Rule{
	"agreement: OneVoteOne":            agreement.OneVoteOne,
	"agreement: OneVoteTwo":            agreement.OneVoteTwo,
	"agreement: NoVoteOneAfterTimeout": agreement.NoVoteOneAfterTimeout,
	"agreement: NoVoteTwoAfterTimeout": agreement.NoVoteTwoAfterTimeout,
	"agreement: TimeoutTellsLock":      agreement.TimeoutTellsLock,
	"agreement: ChangeNeeded":          agreement.ChangeNeeded,
	"agreement: ProposeHighest":        agreement.ProposeHighest,
	"agreement: HighestProven":         agreement.HighestProven,
	"agreement: ChangeIsQuorum":        agreement.ChangeIsQuorum,
	"agreement: ChangeIsSigned":        agreement.ChangeIsSigned,
	"agreement: CertifiedBeforeTwo":    agreement.CertifiedBeforeTwo,
	"agreement: FullQuorum":            agreement.FullQuorum,
}

func (o Switch) rule() agreement.Rule { return agreementRules[o] }

// lying reports whether the switch shows with liars only.
func (o Switch) lying() bool { return o.rule() != 0 && o != "agreement: FullQuorum" }

func (o Switch) leasing() bool {
	switch o {
	case LeaseIgnored, LeaseOverstayed, LeaseByBootClock, LeaseByWallClock, LeaseOfOne, PromiseForgotten, NoPromise, LapseNotWaited, StartNotWaited, ClocksRunApart:
		return true
	}
	return o == OldVotersGrantOn || o == GrantsOfAnyEpoch || o == NewVotersDoNotWait || o == NewVotersForgetPromises
}

// changing reports whether the switch shows when the voters change.
func (o Switch) changing() bool {
	switch o {
	case OldVotersGrantOn, GrantsOfAnyEpoch, AnswersOfAnyEpoch, NewVotersDoNotWait, NewVotersForgetPromises, OldVotersDecideOn, OldKeyBelieved:
		return true
	}
	return false
}

// dividing reports whether the switch shows when some do not hear that the voters
// changed.
func (o Switch) dividing() bool {
	return o == OldVotersGrantOn || o == GrantsOfAnyEpoch || o == AnswersOfAnyEpoch || o == OldVotersDecideOn
}

// forgetting reports whether the switch shows when voters crash in the middle of
// their votes.
func (o Switch) forgetting() bool {
	return o == VotesForgotten || o == VotesUnsynced || o == LostDiskVotes || o == BackupVotes || o == OldKeyBelieved
}
