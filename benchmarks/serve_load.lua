-- What wrk sends to `nnx serve`, and how it judges each answer: serve_load.py writes the cases.
local ffi = require("ffi")

-- globals, which done() reads from the thread; wrk makes one request to look at it, and does not send that
sent, answered, refused, wrong = -1, 0, 0, 0
local cases
local running

function setup(thread)
  running = thread
end

function init(arguments)
  cases = dofile(arguments[1])
  for _, case in ipairs(cases) do
    local headers = { ["Inference-Header-Content-Length"] = tostring(case.length) }
    case.request = wrk.format("POST", nil, headers, case.body)
  end
end

function request()
  sent = sent + 1
  return cases[sent % #cases + 1].request
end

-- whether an answer is the golden one of the case that its id names, within the package's tolerance
local function right(headers, body)
  local length = tonumber(headers["inference-header-content-length"])
  local case = cases[tonumber(body:match('"id":"(%d+)"') or 0)]
  if case == nil or length == nil or #body - length ~= #case.golden then
    return false
  end
  local got = ffi.cast("const float*", ffi.cast("const char*", body) + length)
  local want = ffi.cast("const float*", case.golden)
  for place = 0, #case.golden / 4 - 1 do
    if not (math.abs(got[place] - want[place]) <= case.tolerance) then
      return false
    end
  end
  return true
end

function response(status, headers, body)
  answered = answered + 1
  if status ~= 200 then
    refused = refused + 1
  elseif not right(headers, body) then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '{"seconds": %f, "sent": %d, "answered": %d, "refused": %d, "wrong": %d, "errors": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.duration / 1e6, running:get("sent"), running:get("answered"), running:get("refused"), running:get("wrong"),
    errors, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
  ))
end
