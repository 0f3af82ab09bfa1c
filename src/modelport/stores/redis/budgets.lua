-- One message of a holder about one budget's window: the same arithmetic as modelport/stores/budgets/bank.py.
-- KEYS[1] the state; ARGV[1] the message (MessagePack), ARGV[2] the time in milliseconds, or '' for the server's.
local UNLIMITED, FOLD_MS, SHORT_MS, RECOVERY_MS, SPARE_SHARES, KEPT_MS = -1, 3600000, 2000, 4000, 16, 86400000
local MONEY, TOKENS = 1, 2
local NUMBER, SPENT, KEEP, IDLE, UNTIL, CROSSED = 1, 2, 3, 4, 5, 6
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
    state = {
        epoch = fresh_epoch, seeds = {}, past = {0, 0}, holders = {}, percent = 0, short_ms = 0,
        recovering_ms = 0
    }
    for _, used in ipairs({seed[1], spent, keep}) do
        if used[MONEY] ~= 0 or used[TOKENS] ~= 0 then state.recovering_ms = now_ms + RECOVERY_MS end
    end
end
if epoch ~= '' and epoch ~= state.epoch then return answer('lost') end
if #seed > 0 then
    local known = state.seeds[ledger] or {0, 0}
    state.seeds[ledger] = {math.max(known[MONEY], seed[1][MONEY]), math.max(known[TOKENS], seed[1][TOKENS])}
elseif not state.seeds[ledger] then
    return answer('unknown')
end
local holder = state.holders[holder_name]
if holder and number <= holder[NUMBER] then return answer('stale') end
if not holder and epoch ~= '' then return answer('folded') end
local crossed = {}
if holder and heard < holder[NUMBER] then crossed = holder[CROSSED] end
holder = {number, spent, keep, idle, now_ms + lifetime_ms, crossed}
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
local function percent_of(used)
    local most = 0
    for what = MONEY, TOKENS do
        if limits[what] ~= UNLIMITED then most = math.max(most, math.floor(used[what] * 100 / limits[what])) end
    end
    return most
end
local percent = percent_of(total)
if #seed > 0 then
    local known = {total[MONEY] - spent[MONEY], total[TOKENS] - spent[TOKENS]}
    state.percent = math.max(state.percent, percent_of(known))
end
if percent > state.percent then
    crossed[#crossed + 1] = state.percent
    crossed[#crossed + 1] = percent
    state.percent = percent
end

local fields = {free = free, others = others, total = total, crossed = crossed, holders = count}
if now_ms < state.recovering_ms then
    return answer('recovering', {total = total, crossed = crossed, holders = count})
end

local function lacking(what)
    if limits[what] == UNLIMITED or need[what] <= 0 then return 0 end
    return math.max(0, need[what] - free[what])
end
local lacks_money, lacks_tokens = lacking(MONEY), lacking(TOKENS)
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
        local spare = math.floor((free[what] - need[what]) / (SPARE_SHARES * count))
        if need[what] == 0 then spare = spare - idle[what] end
        granted[what] = need[what] + math.max(0, math.min(wanted[what] - need[what], spare))
    end
    rest[what] = free[what] - granted[what]
end
holder[KEEP] = add(keep, granted)
holder[IDLE] = add(idle, {math.max(0, granted[MONEY] - need[MONEY]), math.max(0, granted[TOKENS] - need[TOKENS])})
fields.granted, fields.free = granted, rest
return answer('granted', fields)
