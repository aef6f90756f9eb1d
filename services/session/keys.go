package session

import (
	"encoding/base64"
	"strconv"

	"github.com/google/uuid"
)

// The keys. What is between braces decides the slot in a Redis Cluster, so all of
// a bucket is in one slot, and so is all of the schedule. They are short because
// there is one for each session.
//
//	{tf12}m              meta of the bucket
//	{tf12}s<session>     session record or tombstone
//	{tf12}v<agent>       minimum version of an agent
//	{tf12}i<shard>       index of sessions: agent and session, by end
//	{tf12}e:<account>    enforcement of an account, copied to each bucket
//	{tf12}p:<account>    sessions at AAL1 that every policy covers, by end
//	{tf12}x:<account>    sessions at AAL1 that policies may exempt, by end
//	{tf12}o              outbox of revocations
//	{tfsched}m           meta of the schedule
//	{tfsched}due         subjects by due time
//	{tfsched}e:<subject> what is due for a subject, and how far it has come

// scheduleBucket stands for the schedule where buckets are counted.
const scheduleBucket = buckets

func bucketTag(bucket int) string {
	if bucket == scheduleBucket {
		return "{tfsched}"
	}
	return "{tf" + strconv.Itoa(bucket) + "}"
}

func short(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func metaKey(bucket int) string   { return bucketTag(bucket) + "m" }
func outboxKey(bucket int) string { return bucketTag(bucket) + "o" }

func enforcementKey(bucket int, account string) string {
	return bucketTag(bucket) + "e:" + account
}

// aal1Key is the index of an account's sessions at AAL1 in a bucket, of those that
// policies may exempt or of the others.
func aal1Key(bucket int, account string, exempt bool) string {
	if exempt {
		return bucketTag(bucket) + "x:" + account
	}
	return bucketTag(bucket) + "p:" + account
}

func (s sessionRef) key() string { return sessionKey(s.bucket(), s.id) }

func sessionKey(bucket int, id uuid.UUID) string { return bucketTag(bucket) + "s" + short(id) }

func (a agentRef) versionKey() string { return bucketTag(a.bucket()) + "v" + short(a.agent) }

func (a agentRef) shardKey() string {
	return bucketTag(a.bucket()) + "i" + strconv.Itoa(a.shard())
}

const dueKey = "{tfsched}due"

func scheduleKey(subject string) string { return "{tfsched}e:" + subject }
