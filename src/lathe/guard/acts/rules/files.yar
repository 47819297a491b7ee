/* What files that are written or fetched are looked at for, besides rules of others.
   clause: of the taxonomy; score: 0 to 100. Facts: EICAR's page on its test file; the formats of ELF and UPX; the
   names that mimipenguin looks for in memory; the options of XMRig. */

rule eicar_test_file {
  meta:
    description = "the test file of EICAR, which does no harm"
    clause = "defence.operate"
    score = 90
  strings:
    $text = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D 24
              45 49 43 41 52 2D 53 54 41 4E 44 41 52 44 2D 41 4E 54 49 56 49 52 55 53 2D 54 45 53 54
              2D 46 49 4C 45 21 24 48 2B 48 2A }
  condition:
    $text at 0
}

rule packed_program {
  meta:
    description = "a program for Linux that is packed with UPX"
    clause = "agent.overreach"
    score = 40
  strings:
    $mark = "UPX!"
  condition:
    uint32(0) == 0x464C457F and $mark in (0..1024)
}

rule credential_dumper {
  meta:
    description = "a program that looks for passwords in the memory of log-in services"
    clause = "credential.theft"
    score = 85
  strings:
    $getpwnam = "_pammodutil_getpwnam_root_1"
    $keyring = "gkr_system_authtok"
    $memory = "/proc/"
  condition:
    (uint32(0) == 0x464C457F or uint16(0) == 0x2123) and all of them
}

rule miner {
  meta:
    description = "a program that mines crypto currency"
    clause = "agent.overreach"
    score = 85
  strings:
    $pool = "stratum+tcp://"
    $share = "donate-level"
    $algorithm = "randomx" nocase
  condition:
    uint32(0) == 0x464C457F and all of them
}
