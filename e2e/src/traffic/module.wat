;; A filter for live cases: it adds its configuration to each request as the header x-module. Without a configuration it
;; fails at the first request.
(module
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $bytes (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "x-module")
  (global $free (mut i32) (i32.const 1024))
  (global $length (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize"))
  (func (export "proxy_on_memory_allocate") (param $bytes i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get $bytes))))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  ;; The configuration is buffer 7; where it is goes to 0, how long it is to 4.
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (global.set $length (local.get 1))
    (drop (call $bytes (i32.const 7) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 4)))
    (i32.const 1))
  ;; Request headers are map 0; the filter chain goes on with 0.
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (if (i32.eqz (global.get $length)) (then unreachable))
    (drop (call $add (i32.const 0) (i32.const 16) (i32.const 8) (i32.load (i32.const 0)) (global.get $length)))
    (i32.const 0)))
