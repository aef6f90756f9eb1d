package session

// scripts are all the Lua there is. A script makes atomic what has to be; it
// knows nothing of the rule, and compares values it was handed with those that
// are there. Time is an argument. Every key is in KEYS, and all keys of a run are
// in one slot. They keep to what the embedded store's Lua knows.
type scripts struct {
	issue, end, fence, rewrite, swap, advance, schedule, claim, progress script
}

func newScripts() scripts {
	return scripts{
		issue:    newScript(issueSource),
		end:      newScript(endSource),
		fence:    newScript(fenceSource),
		rewrite:  newScript(rewriteSource),
		swap:     newScript(swapSource),
		advance:  newScript(advanceSource),
		schedule: newScript(scheduleSource),
		claim:    newScript(claimSource),
		progress: newScript(progressSource),
	}
}

// What scripts answer beside counts.
const (
	issueDone = iota
	issueKnownChanged
	issueVersionStale
	issueReplacedChanged
)

const (
	// endKnownChanged: the enforcement is not the one the decision was made on.
	endKnownChanged = -1

	advanceDone    = 1
	advanceMissing = -1 // the bucket has no meta
	advanceBehind  = -2 // the bucket has not come as far as it should have
)

// issue makes a session, and ends the one it replaces.
//
// Input:
//
//	KEYS[1] enforcement          KEYS[2] minimum version of the agent
//	KEYS[3] the session          KEYS[4] index of the shard
//	KEYS[5] index at AAL1        KEYS[6] the session replaced
//	KEYS[7], KEYS[8] indexes at AAL1 of the session replaced
//	KEYS[9] outbox
//	ARGV[1] enforcement expected, "" for none    ARGV[2] enforcement to store, "" for as is
//	ARGV[3] agent version        ARGV[4] record
//	ARGV[5] TTL of it, ms        ARGV[6] member of the shard's index
//	ARGV[7] end, unix ms         ARGV[8] "1" at AAL1
//	ARGV[9] ends before which members of indexes are removed
//	ARGV[10] TTL of the index at AAL1, ms
//	ARGV[11] record replaced as expected, "" for none
//	ARGV[12] its tombstone       ARGV[13] TTL of it, ms
//	ARGV[14] its member          ARGV[15] account
//	ARGV[16] cause               ARGV[17] now, unix µs
//
// Output: 0 done, 1 another enforcement is there, 2 the version is below the
// minimum, 3 another record is there to replace.
const issueSource = `
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 1 end
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[3]) then return 2 end
if ARGV[11] ~= '' then
  if (redis.call('GET', KEYS[6]) or '') ~= ARGV[11] then return 3 end
  redis.call('SET', KEYS[6], ARGV[12], 'PX', ARGV[13])
  redis.call('ZREM', KEYS[4], ARGV[14])
  local id = string.sub(ARGV[14], 17)
  redis.call('ZREM', KEYS[7], id)
  redis.call('ZREM', KEYS[8], id)
  redis.call('XADD', KEYS[9], '*', 'a', ARGV[15], 'c', ARGV[16], 't', ARGV[17], 's', ARGV[14])
end
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2]) end
redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', ARGV[9])
redis.call('ZADD', KEYS[4], ARGV[7], ARGV[6])
if ARGV[8] == '1' then
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[9])
  redis.call('ZADD', KEYS[5], ARGV[7], string.sub(ARGV[6], 17))
  redis.call('PEXPIRE', KEYS[5], ARGV[10])
end
return 0
`

// end ends sessions of one account, and tells of it.
//
// Input:
//
//	KEYS[1] enforcement          KEYS[2], KEYS[3] indexes at AAL1
//	KEYS[4] outbox
//	KEYS[5], KEYS[7], … the sessions; KEYS[6], KEYS[8], … the index of each one's shard
//	ARGV[1] enforcement the decision was made on, "" for any
//	ARGV[2] cause                ARGV[3] TTL of tombstones, ms
//	ARGV[4] end only below this agent version, 0 for all
//	ARGV[5] now, unix µs         ARGV[6] "1" to tell
//	ARGV[7] account              ARGV[8] the call that asked, as the outbox has it
//	ARGV[9], … the members of the sessions
//
// Output: how many were ended, those over before not counted; -1 when another
// enforcement is there.
const endSource = `
if ARGV[1] ~= '' and (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return -1 end
local bound = tonumber(ARGV[4])
local ended, gone = {}, {}
for i = 0, #ARGV - 9 do
  local key, member = KEYS[5 + 2 * i], ARGV[9 + i]
  local record = redis.call('GET', key) or ''
  local keep = false
  if string.sub(record, 1, 1) == 'S' then
    local head = string.find(record, ';', 1, true)
    if bound == 0 or tonumber(string.sub(record, 2, head - 1)) < bound then
      redis.call('SET', key, 'T' .. ARGV[2] .. string.sub(record, head + 1, head + 32), 'PX', ARGV[3])
      ended[#ended + 1] = member
    else
      keep = true
    end
  end
  if not keep then
    redis.call('ZREM', KEYS[6 + 2 * i], member)
    gone[#gone + 1] = string.sub(member, 17)
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[2], unpack(gone))
  redis.call('ZREM', KEYS[3], unpack(gone))
end
if #ended > 0 and ARGV[6] == '1' then
  redis.call('XADD', KEYS[4], '*', 'a', ARGV[7], 'c', ARGV[2], 't', ARGV[5], 's', table.concat(ended), 'o', ARGV[8])
end
return #ended
`

// fence raises the version below which an agent's sessions are over, and the
// version of one session that stays.
//
// Input:
//
//	KEYS[1] minimum version of the agent    KEYS[2] the session that stays
//	ARGV[1] version                         ARGV[2] TTL of the minimum, ms
//	ARGV[3] "1" if a session stays
//
// Output: the minimum version now.
const fenceSource = `
local version = tonumber(ARGV[1])
local minimum = tonumber(redis.call('GET', KEYS[1]) or '0')
if version >= minimum then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  minimum = version
end
if ARGV[3] == '1' then
  local record = redis.call('GET', KEYS[2]) or ''
  if string.sub(record, 1, 1) == 'S' then
    local head = string.find(record, ';', 1, true)
    if tonumber(string.sub(record, 2, head - 1)) < version then
      redis.call('SET', KEYS[2], 'S' .. ARGV[1] .. string.sub(record, head), 'KEEPTTL')
    end
  end
end
return minimum
`

// rewrite replaces the record of a session, unless the session changed since it was
// read.
//
// Input:
//
//	KEYS[1] the session          KEYS[2] index of its shard
//	KEYS[3] index at AAL1
//	ARGV[1] record as it was     ARGV[2] record as it will be
//	ARGV[3] TTL of it, ms        ARGV[4] end, unix ms
//	ARGV[5] member               ARGV[6] "1" at AAL1
//	ARGV[7] TTL of the index at AAL1, ms
//
// Output: 1 if written.
const rewriteSource = `
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5])
if ARGV[6] == '1' then
  redis.call('ZADD', KEYS[3], ARGV[4], string.sub(ARGV[5], 17))
  redis.call('PEXPIRE', KEYS[3], ARGV[7])
end
return 1
`

// swap replaces a value that nobody changed since it was read.
//
// Input:
//
//	KEYS[1] the key
//	ARGV[1] value expected, "" for none    ARGV[2] new value
//
// Output: 1 if replaced.
const swapSource = `
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
`

// advance moves the position of a bucket on, if the bucket holds everything
// before.
//
// Input:
//
//	KEYS[1] meta
//	ARGV[1] epoch    ARGV[2] position it must have reached    ARGV[3] new position
//
// Output: 1 done, -1 no meta, -2 not reached.
const advanceSource = `
local meta = redis.call('GET', KEYS[1])
if not meta then return -1 end
local epoch, position, rest = string.match(meta, '^(%d+);(%d+);(.*)$')
if not epoch or tonumber(epoch) < tonumber(ARGV[1]) then return -2 end
if tonumber(epoch) > tonumber(ARGV[1]) then return 1 end
if tonumber(position) < tonumber(ARGV[2]) then return -2 end
if tonumber(position) < tonumber(ARGV[3]) then
  redis.call('SET', KEYS[1], epoch .. ';' .. ARGV[3] .. ';' .. rest)
end
return 1
`

// schedule puts, moves or cancels what is due for a subject, unless something
// newer is there. The same version again changes nothing.
//
// Input:
//
//	KEYS[1] due set              KEYS[2] the subject's entry
//	ARGV[1] subject              ARGV[2] version
//	ARGV[3] due, unix ms, "" to cancel
//	ARGV[4] TTL of an entry with nothing due, ms
//
// Output: 1 if changed.
const scheduleSource = `
local version = tonumber(redis.call('HGET', KEYS[2], 'v') or '0')
if version >= tonumber(ARGV[2]) then return 0 end
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'v', ARGV[2])
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
`

// claim takes the lease of a subject that is due.
//
// Input:
//
//	KEYS[1] due set              KEYS[2] the subject's entry
//	ARGV[1] subject              ARGV[2] the latest due time that counts, unix ms
//	ARGV[3] now, unix ms         ARGV[4] end of the lease, unix ms
//	ARGV[5] owner
//
// Output: 1 if claimed.
const claimSource = `
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due or tonumber(due) > tonumber(ARGV[2]) then return 0 end
if tonumber(redis.call('HGET', KEYS[2], 'l') or '0') > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[2], 'l', ARGV[4], 'o', ARGV[5])
return 1
`

// progress stores how far a claimed subject has come, and renews or ends the
// lease.
//
// Input:
//
//	KEYS[1] due set              KEYS[2] the subject's entry
//	ARGV[1] subject              ARGV[2] version
//	ARGV[3] owner                ARGV[4] cursor
//	ARGV[5] sessions ended since the last call
//	ARGV[6] end of the lease, unix ms
//	ARGV[7] "1" when all is done ARGV[8] TTL of an entry with nothing due, ms
//
// Output: 1, or 0 when the claim is lost.
const progressSource = `
if redis.call('HGET', KEYS[2], 'v') ~= ARGV[2] or redis.call('HGET', KEYS[2], 'o') ~= ARGV[3] then return 0 end
redis.call('HINCRBY', KEYS[2], 'n', ARGV[5])
redis.call('HSET', KEYS[2], 'c', ARGV[4], 'l', ARGV[6])
if ARGV[7] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
return 1
`
