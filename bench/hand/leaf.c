static unsigned seen;

void leaf(void)
{
	seen++;
}
