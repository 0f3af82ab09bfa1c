-- One message of a holder about one budget's window: the same arithmetic as modelport/stores/budgets/bank.py.
-- KEYS[1] the state; ARGV[1] the message (MessagePack), ARGV[2] the time in milliseconds, or '' for the server's.
local UNLIMITED, FOLD_MS, SHORT_MS, KEPT_MS = -1, 3600000, 2000, 86400000
local MONEY, TOKENS = 1, 2
local NUMBER, SPENT, KEEP, IDLE, UNTIL = 1, 2, 3, 4, 5
local CLAIMANT, CLAIMED_IN, BEFORE = 1, 2, 3
local _, _, lasts_ms, holder_name, number, epoch, fresh_epoch, ledger, seed, spent, keep, idle, need, want, limits,
    heard, lifetime_ms = unpack(cmsgpack.unpack(ARGV[1]))

local now_ms
if ARGV[2] == '' then
    local time = redis.call('TIME')
    now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
else
    now_ms = tonumber(ARGV[2])
end

local state
local stored = redis.call('GET', KEYS[1])
if stored then state = cmsgpack.unpack(stored) end

local function answer(status, fields)
    if state then
        local left_ms = math.max(0, lasts_ms) + KEPT_MS
        redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', string.format('%d', left_ms))
    end
    fields = fields or {}
    return cmsgpack.pack({
        status, state and state.epoch or '', fields.granted or {0, 0}, fields.free or {0, 0}, fields.others or {0, 0},
        fields.total or {0, 0}, fields.is_short or false, fields.crossed or {}, fields.holders or 1
    })
end

if not state then
    if epoch ~= '' then return answer('lost') end
    if #seed == 0 then return answer('unknown') end
    state = {epoch = fresh_epoch, seeds = {}, past = {0, 0}, holders = {}, percent = 0, claim = {'', 0, 0}, short_ms = 0}
end
if epoch ~= '' and epoch ~= state.epoch then return answer('lost') end
local is_seeding = not state.seeds[ledger]
if is_seeding then
    if #seed == 0 then return answer('unknown') end
    state.seeds[ledger] = seed[1]
end
local holder = state.holders[holder_name]
if holder and number <= holder[NUMBER] then return answer('stale') end
if not holder and epoch ~= '' then return answer('folded') end
holder = {number, spent, keep, idle, now_ms + lifetime_ms}
state.holders[holder_name] = holder

local function add(sum, other)
    return {sum[MONEY] + other[MONEY], sum[TOKENS] + other[TOKENS]}
end

-- Those that have been silent for long become one sum.
for name, one in pairs(state.holders) do
    if one[UNTIL] + FOLD_MS <= now_ms then
        state.past = add(state.past, add(one[SPENT], one[KEEP]))
        state.holders[name] = nil
    end
end

local total, held, others, count = state.past, {0, 0}, {0, 0}, 0
for _, one in pairs(state.seeds) do total = add(total, one) end
for name, one in pairs(state.holders) do
    total = add(total, one[SPENT])
    held = add(held, one[KEEP])
    if one[UNTIL] > now_ms then
        count = count + 1
        if name ~= holder_name then others = add(others, one[IDLE]) end
    end
end

local function left(limit, taken)
    if limit == UNLIMITED then return 0 end
    return limit - taken
end
local free = {
    left(limits[MONEY], total[MONEY] + held[MONEY]), left(limits[TOKENS], total[TOKENS] + held[TOKENS])
}

-- Which part of the budget is used, and who tells of it.
local function used_percent(what)
    if limits[what] == UNLIMITED then return 0 end
    return math.floor(total[what] * 100 / limits[what])
end
local percent = math.max(used_percent(MONEY), used_percent(TOKENS))
local crossed = {}
local claim = state.claim
local is_unheard = claim[CLAIMANT] == holder_name and heard < claim[CLAIMED_IN]
if is_seeding then
    state.percent = math.max(state.percent, percent)
elseif percent > state.percent then
    state.claim = {holder_name, number, is_unheard and claim[BEFORE] or state.percent}
    state.percent = percent
    crossed = {state.claim[BEFORE], percent}
elseif is_unheard then
    state.claim = {holder_name, number, claim[BEFORE]}
    crossed = {claim[BEFORE], state.percent}
end

local function lacking(what)
    if limits[what] == UNLIMITED or need[what] <= 0 then return 0 end
    return math.max(0, need[what] - free[what])
end
local lacks_money, lacks_tokens = lacking(MONEY), lacking(TOKENS)
local fields = {free = free, others = others, total = total, crossed = crossed, holders = count}
if lacks_money > 0 or lacks_tokens > 0 then
    if lacks_money <= others[MONEY] and lacks_tokens <= others[TOKENS] then state.short_ms = now_ms + SHORT_MS end
    fields.is_short = now_ms < state.short_ms
    return answer('refused', fields)
end

fields.is_short = now_ms < state.short_ms
local wanted = fields.is_short and need or want
local granted, rest = {}, {}
for what = MONEY, TOKENS do
    granted[what] = 0
    if limits[what] ~= UNLIMITED then
        local extra = math.min(wanted[what] - need[what], math.floor((free[what] - need[what]) / (2 * count)))
        granted[what] = need[what] + math.max(0, extra)
    end
    rest[what] = free[what] - granted[what]
end
holder[KEEP] = add(keep, granted)
fields.granted, fields.free = granted, rest
return answer('granted', fields)
