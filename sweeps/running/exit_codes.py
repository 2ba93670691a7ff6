"""How a worker ends, apart from the codes that training code may choose to end with."""

FAULTY, USER_ERROR, HUNG, ORPHANED, STORE_AWAY, DISK_FULL, OUT_OF_MEMORY = 1, 170, 171, 172, 173, 174, 175
