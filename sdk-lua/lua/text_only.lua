-- What loads code, for text alone, whatever mode is asked for: bytecode is not checked by Lua and can break the
-- memory of the process. For src/runner/state.rs, before any script.
local load_any, load_any_file, searchpath, package, error = load, loadfile, package.searchpath, package, error

-- What is absent stays absent: an environment of nil is one.
function load(chunk, name, _, ...) return load_any(chunk, name, "t", ...) end

function loadfile(name, _, ...) return load_any_file(name, "t", ...) end

function dofile(name)
  local chunk, why = load_any_file(name, "t")
  if not chunk then error(why, 0) end
  return chunk()
end

-- The one of `require` for files.
package.searchers[2] = function(name)
  local path, tried = searchpath(name, package.path)
  if not path then return tried end
  local chunk, why = load_any_file(path, "t")
  if not chunk then error("error loading module '" .. name .. "' from file '" .. path .. "':\n\t" .. why, 0) end
  return chunk, path
end
